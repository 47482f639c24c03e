//! Some messages of each type, with the number of their type in front.

use bulkhead_channel::codec;
use bulkhead_hypervisor::remote::wire::{Answer, Halt, Order, Request as Wish, Turn};
use bulkhead_hypervisor::x86_64::VcpuState;
use bulkhead_protocol::VERSION;
use bulkhead_protocol::block::{BlockCommand, BlockEvent, BlockPlan, ExportPlan, NodePlan};
use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::{
    FromSupervisor, InstanceState, ProcessInfo, ProcessState, Request, Response, ToSupervisor,
};
use bulkhead_protocol::core::{
    BackendKind, CoreCommand, CoreEvent, CorePlan, DeviceKind, DevicePlan,
};
use bulkhead_protocol::device::{
    BlkCommand, BlkPlan, ConsoleCommand, DeviceEvent, DiskInfo, QueuePlan, RingShape, RngCommand,
};
use bulkhead_protocol::event::{EndReason, Event, EventKind};
use bulkhead_protocol::filters::{Fault, FaultOn, FaultThen, Filters, Limit, Limits};
use bulkhead_protocol::gdb::{
    Breakpoint, DebugAnswer, DebugRegisters, DebugReport, DebugRequest, GdbCommand, Motion,
    StopReason,
};
use bulkhead_protocol::launch::{CgroupFolder, LauncherCommand, LauncherEvent, Layer, LayerState};
use bulkhead_protocol::session::{Refusal, SessionCommand, SessionEvent};
use bulkhead_protocol::sink::SinkCommand;
use bulkhead_protocol::spec::{
    Address, AioMode, CacheMode, DiskSource, DiskSpec, EngineSpec, ExportSpec, Format, GdbSpec,
    NbdSpec, OnCrash, Part, SoftSpec, Spec, StorageSpec, TlsSpec, VmSpec,
};
use bulkhead_protocol::start::{FromHelper, Nothing, SealReport, ToHelper};
use serde::Serialize;

/// Numbered as in `TYPES`.
pub fn samples() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut put = |number: u8, bytes: Vec<u8>| all.push([&[number][..], &bytes].concat());
    for request in [Request::Hello { version: VERSION }, Request::Shutdown { timeout_ms: 9 }] {
        put(0, bytes(&request));
        put(7, bytes(&FromHelper::Role(ToSupervisor { call: 5, request })));
    }
    for response in responses() {
        put(1, bytes(&response));
        put(6, bytes(&ToHelper::Role(FromSupervisor::Answer { call: 5, response })));
    }
    put(2, bytes(&start(Spec::Vm(vm()))));
    put(2, bytes(&start(Spec::Storage(storage()))));
    put(3, bytes(&SessionEvent::Refused(refusal())));
    put(3, bytes(&SessionEvent::Happened(event())));
    put(3, bytes(&SessionEvent::Ended(EndReason::GuestCrashed("triple fault".into()))));
    launcher_commands().iter().for_each(|command| put(4, bytes(command)));
    launcher_events().iter().for_each(|event| put(5, bytes(event)));
    put(6, bytes(&ToHelper::Role(FromSupervisor::Happened(event()))));
    core_commands().into_iter().for_each(|command| put(8, bytes(&ToHelper::Role(command))));
    put(9, bytes(&FromHelper::Role(CoreEvent::DeviceFault { device: 1, reason: "r".into() })));
    put(10, bytes(&ToHelper::Role(BlkCommand::Plan(blk_plan()))));
    put(11, bytes(&ToHelper::Role(console_plan())));
    put(12, bytes(&ToHelper::Role(RngCommand::Plan { queues: QUEUES })));
    put(13, bytes(&FromHelper::Role(DeviceEvent::FrontendFault("half a message".into()))));
    put(14, bytes(&ToHelper::Role(BlockCommand::Plan(Box::new(block_plan())))));
    put(15, bytes(&FromHelper::Role(BlockEvent::Opened(DISK))));
    put(16, bytes(&ToHelper::Role(SinkCommand::Plan { history: 65_536 })));
    put(17, bytes(&FromHelper::<Nothing>::Sealed(report())));
    put(17, bytes(&FromHelper::<Nothing>::Alive { number: 3, progress: 4 }));
    put(18, bytes(&Wish::Routes(vec![(24, Some((0xfee0_0000, 0x41))), (25, None)])));
    put(18, bytes(&Wish::ConnectCall { connection: 7, gsi: 24 }));
    put(19, bytes(&Answer::Refused("no room".into())));
    put(20, bytes(&Turn { answer: 5, order: Order::SetState(Box::default()) }));
    put(21, bytes(&Halt::State(Box::<VcpuState>::default())));
    put(21, bytes(&Halt::MemoryWrite { address: 0xfec0_0000, width: 4, value: 1 }));
    put(22, bytes(&ToHelper::Role(GdbCommand::Plan { vcpus: 2 })));
    debug_requests().iter().for_each(|request| put(23, bytes(request)));
    let registers = DebugRegisters { fx: vec![7; 512], ..DebugRegisters::default() };
    put(24, bytes(&DebugReport::Answer(DebugAnswer::Registers(Box::new(registers)))));
    put(24, bytes(&DebugReport::Stopped { cpu: 1, why: StopReason::Data(0x1000) }));
    all
}

fn debug_requests() -> Vec<DebugRequest> {
    let watch = Breakpoint::Data { address: 0x1000, len: 8, reads: true };
    vec![
        DebugRequest::Resume(vec![Motion::Step, Motion::Run]),
        DebugRequest::Read { cpu: 0, address: u64::MAX, len: 9 },
        DebugRequest::Write { cpu: 1, address: 5, bytes: vec![1, 2, 3] },
        DebugRequest::Break(watch),
    ]
}

fn bytes<T: Serialize>(message: &T) -> Vec<u8> {
    codec::encode(message).expect("a sample is small")
}

const QUEUES: QueuePlan = QueuePlan { queues: 2, queue_size: 256, own_fault: true };

const DISK: DiskInfo = DiskInfo {
    size: 1 << 30,
    logical_block: 512,
    physical_block: 4096,
    optimal_io: 0,
    read_only: false,
    discard: true,
    flush: true,
};

fn event() -> Event {
    let role = ProcessClass::VhostBlk;
    let (id, cause, last_words) = ("d0".into(), "SIGKILL".into(), String::new());
    let kind = EventKind::HelperDied { role, id, cause, security: false, last_words };
    Event { time: 1, vm: "vm".into(), kind }
}

fn responses() -> Vec<Response> {
    let info = ProcessInfo {
        role: ProcessClass::BlockLayer,
        id: "d0".into(),
        pid: 77,
        state: ProcessState::Restarting,
        restarts: 2,
        layers: vec![
            (Layer::Seccomp, LayerState::Enforced),
            (Layer::OwnUid, LayerState::NotApplicable("no subordinate ids".into())),
        ],
        cpus: vec![0, 1],
    };
    let name = "vm".to_owned();
    vec![
        Response::Processes(vec![info.clone(), info]),
        Response::Status { name, state: InstanceState::Paused, cpus: 2, memory: 1 << 29 },
        Response::Refused("no".into()),
        Response::Event(event()),
        Response::Console,
    ]
}

fn vm() -> VmSpec {
    let image = DiskSource::Image {
        path: "disk.img".into(),
        server: None,
        format: Format::Raw(Part { offset: 4096, size: None }),
        cache: CacheMode::None,
        discard: true,
        read_only: false,
    };
    VmSpec {
        name: "vm".into(),
        kernel: "vmlinuz".into(),
        initrd: Some("initrd".into()),
        append: "console=ttyS0".into(),
        cpus: 2,
        memory: 512 << 20,
        disks: vec![disk(image), disk(DiskSource::VhostUser { socket: "/tmp/s".into() })],
        console: true,
        rng: true,
        no_reboot: false,
        on_crash: OnCrash::Reset,
        engine: EngineSpec::Soft(SoftSpec { jit: true, trace: false }),
        debug_exit: Some(0xf4),
        gdb: Some(GdbSpec { listen: Address::Path("/run/gdb".into()), wait: true }),
        nbd: Vec::new(),
        weaker: vec![Layer::Cgroup],
    }
}

fn disk(source: DiskSource) -> DiskSpec {
    let (id, serial, on_error) = ("d0".into(), "s".into(), Default::default());
    DiskSpec {
        id,
        source,
        serial,
        queues: 2,
        cpu: Some(1),
        filters: filters(),
        verify: Some("reference".into()),
        on_error,
        aio: AioMode::Native,
    }
}

fn filters() -> Filters {
    let limit = Limit { average: 100, burst: 200, burst_seconds: 3 };
    let then = FaultThen::Fail(5);
    let fault = Fault { on: FaultOn::Write, at: 0, len: 512, after: 1, times: 2, then };
    let limits = Limits { bytes: limit, request_size: 4096, ..Limits::default() };
    let group = Some("g".into());
    Filters { delay_ms: 1, limits, group, copy_on_read: true, faults: vec![fault] }
}

fn storage() -> StorageSpec {
    let export =
        ExportSpec { disk: "d0".into(), socket: "/tmp/e".into(), queues: 2, read_only: true };
    let source = DiskSource::VhostUser { socket: "/tmp/s".into() };
    let disks = vec![disk(source)];
    let tls = Some(TlsSpec { folder: "/etc/pki".into(), verify: true });
    let nbd = NbdSpec {
        id: String::new(),
        disk: "d0".into(),
        listen: Address::Path("/tmp/n".into()),
        name: "n".into(),
        description: "a disk".into(),
        read_only: false,
        bitmap: None,
        tls,
    };
    StorageSpec {
        name: "st".into(),
        disks,
        exports: vec![export],
        nbd: vec![nbd],
        weaker: Vec::new(),
    }
}

fn start(spec: Spec) -> SessionCommand {
    SessionCommand::Start {
        spec: Box::new(spec),
        dry_run: false,
        detach: true,
        serial: true,
        console: true,
        trace: true,
        size: Some((80, 25)),
    }
}

fn refusal() -> Refusal {
    let [option, value, reason, remedy] = ["--kernel", "x", "is no kernel", "name one"];
    Refusal {
        option: option.into(),
        value: value.into(),
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

fn launcher_commands() -> Vec<LauncherCommand> {
    let folder = CgroupFolder { version: 1, controllers: vec!["memory".into(), "pids".into()] };
    vec![
        LauncherCommand::Plan {
            binaries: ProcessClass::ALL.to_vec(),
            cgroups: vec![folder],
            weaker: Layer::ALL.to_vec(),
        },
        LauncherCommand::Start {
            ticket: 1,
            class: ProcessClass::Core,
            id: String::new(),
            ordinal: 3,
            arguments: vec!["2".into()],
            cpus: vec![0],
        },
        LauncherCommand::Forget { ticket: 1 },
    ]
}

fn launcher_events() -> Vec<LauncherEvent> {
    let layers = vec![(Layer::Landlock, LayerState::Weakened("the kernel has none".into()))];
    vec![
        LauncherEvent::Started { ticket: 1, pid: 5, uid: 1000, layers },
        LauncherEvent::Failed { ticket: 1, pid: 0, layer: Some(Layer::Limits), reason: "r".into() },
    ]
}

fn core_commands() -> Vec<CoreCommand> {
    let device = DevicePlan {
        id: "d0".into(),
        kind: DeviceKind::Blk,
        backend: BackendKind::Own,
        queues: 2,
        queue_size: 256,
    };
    let plan = CorePlan {
        cpus: 2,
        memory: 512 << 20,
        engine: bulkhead_protocol::core::EngineKind::Kvm,
        append: "quiet".into(),
        debug_exit: Some(0xf4),
        waits_for_debugger: true,
        initrd: true,
        devices: vec![device.clone(), device],
    };
    vec![CoreCommand::Plan(Box::new(plan)), CoreCommand::Device { device: 0, fds: 5 }]
}

fn blk_plan() -> BlkPlan {
    BlkPlan {
        disk: DISK,
        serial: "s".into(),
        queues: QUEUES,
        ring: RingShape::DEFAULT,
        incarnation: 7,
        cpus: vec![0, 1],
    }
}

fn console_plan() -> ConsoleCommand {
    ConsoleCommand::Plan { queues: QUEUES, columns: 80, rows: 25 }
}

fn block_plan() -> BlockPlan {
    let export = ExportPlan {
        export: 0,
        queues: 2,
        ring: RingShape::DEFAULT,
        incarnation: 7,
        read_only: false,
        bitmap: None,
        cpus: vec![0, 0],
    };
    let (cache, part) = (CacheMode::Writeback, Part { offset: 512, size: Some(4096) });
    let node = NodePlan::Raw { cache, discard: true, read_only: false, part };
    BlockPlan::serving(node, vec![export.clone(), export])
}

fn report() -> SealReport {
    SealReport {
        version: VERSION,
        landlock_abi: 7,
        landlock_missing: vec!["Signal".into()],
        probe_refused: true,
    }
}
