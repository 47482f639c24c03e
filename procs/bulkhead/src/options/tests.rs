use bulkhead_protocol::filters::{Fault, FaultOn, FaultThen, Limit};
use bulkhead_protocol::spec::{
    Address, AioMode, BackingFormat, CacheMode, DiskSource, EngineSpec, Format, Part, SoftSpec,
    Spec,
};
use proptest::prelude::*;

use super::cpu::Cpu;
use super::export::Export;
use super::{RunPlan, disk, export, keyed, size, spec};
use crate::choice::Choice;
use crate::cli::RunOptions;

fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn linux_aio_is_for_what_goes_past_the_page_cache() {
    let disk = |text: &str| disk::parse(text, 0).map(|disk| disk.aio);
    let native = "path=a,format=raw,aio=native";
    assert_eq!(disk(&format!("{native},cache=none")).unwrap(), AioMode::Native);
    assert_eq!(disk("path=a,format=raw,cache=none").unwrap(), AioMode::Threads);
    for wrong in [native, "path=a,format=raw,cache=none,aio=io_uring", "vhost-user=s,aio=native"] {
        let told = disk(wrong).unwrap_err().to_string();
        assert!(told.contains("aio="), "{told}");
    }
}

#[test]
fn sizes_are_read_as_people_write_them() {
    assert_eq!(size::parse("4G"), Ok(4 << 30));
    assert_eq!(size::parse("512MiB"), Ok(512 << 20));
    assert_eq!(size::parse("65536"), Ok(65536));
    assert!(size::parse("4X").is_err() && size::parse("").is_err() && size::parse("M").is_err());
    assert!(size::parse("99999999999999T").is_err());
}

#[test]
fn a_disk_has_all_its_keys() {
    let text =
        "path=a,,b.img,format=raw,readonly,id=root,serial=S1,cache=none,discard=off,queues=2";
    let disk = disk::parse(text, 0).unwrap();
    assert_eq!((disk.id.as_str(), disk.serial.as_str(), disk.queues), ("root", "S1", 2));
    let DiskSource::Image { path, cache, discard, read_only, .. } = disk.source else {
        panic!("an image");
    };
    assert_eq!(path.to_str(), Some("a,b.img"));
    assert_eq!((cache, discard, read_only), (CacheMode::None, false, true));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let text = refusal(disk::parse("path=a,fromat=raw", 0));
    assert_eq!(
        text,
        "--disk: path=a,fromat=raw: 'fromat' is not a key of it; did you mean 'format'?"
    );
}

#[test]
fn a_format_is_never_guessed_nor_a_foreign_one_taken() {
    assert!(refusal(disk::parse("path=a", 0)).contains("never guessed"));
    assert!(refusal(disk::parse("path=a,format=vhdx", 0)).contains("'vhdx' is not served"));
    let backing = "path=a,format=qcow2,backing=b";
    assert!(refusal(disk::parse(backing, 0)).contains("'backing-format' is missing"));
    assert!(refusal(disk::parse("path=a,format=raw,backing=b", 0)).contains("backing"));
}

#[test]
fn a_raw_image_may_be_a_part_of_its_file() {
    let disk = disk::parse("path=a,format=raw,offset=1M,size=64K", 0).unwrap();
    let DiskSource::Image { format: Format::Raw(part), .. } = disk.source else {
        panic!("a raw image");
    };
    assert_eq!(part, Part { offset: 1 << 20, size: Some(65536) });
    let text = "path=a,format=qcow2,backing=b,backing-format=raw,base-offset=512";
    let DiskSource::Image { format: Format::Qcow2 { backing, .. }, .. } =
        disk::parse(text, 0).unwrap().source
    else {
        panic!("a qcow2 image");
    };
    assert_eq!(backing[0].format, BackingFormat::Raw(Part { offset: 512, size: None }));
    for (text, key) in [
        ("path=a,format=qcow2,offset=512", "offset"),
        ("path=a,format=raw,base-size=512", "base-size"),
        ("path=a,format=qcow2,backing=b,backing-format=qcow2,base-size=1K", "base-size"),
        ("driver=null-co,size=1G,throttling.iops-total=1,vhost-user=/a", "driver"),
    ] {
        let text = refusal(disk::parse(text, 0));
        assert!(text.contains(&format!("'{key}'")), "{text}");
    }
}

#[test]
fn nothing_stands_in_front_of_a_foreign_backend() {
    for key in ["delay=3", "copy-on-read", "throttling.iops-total=3", "inject=read:EIO"] {
        let text = refusal(disk::parse(&format!("vhost-user=/a,{key}"), 0));
        assert!(text.contains("not of another program's"), "{text}");
    }
}

#[test]
fn a_disk_of_zeroes_has_a_size_and_no_file() {
    let disk = disk::parse("driver=null-co,size=1G,readonly", 0).unwrap();
    assert_eq!(disk.source, DiskSource::Null { size: 1 << 30, read_only: true });
    assert!(refusal(disk::parse("driver=null-co", 0)).contains("'size' is missing"));
    assert!(refusal(disk::parse("driver=null-co,size=1G,path=a", 0)).contains("'path'"));
    assert!(refusal(disk::parse("driver=nvme,size=1G", 0)).contains("no driver 'nvme'"));
}

#[test]
fn limits_have_qemus_names_and_rules() {
    let text = "path=a,format=raw,throttling.iops-total=100,throttling.iops-total-max=500,\
                throttling.iops-total-max-length=10,throttling.bps-write=1M,throttling.iops-size=4K";
    let limits = disk::parse(text, 0).unwrap().filters.limits;
    assert_eq!(limits.requests, Limit { average: 100, burst: 500, burst_seconds: 10 });
    assert_eq!(limits.written_bytes, Limit { average: 1 << 20, ..Limit::default() });
    assert_eq!(limits.request_size, 4096);
    let both = "path=a,format=raw,throttling.bps-total=1M,throttling.bps-read=1M";
    assert!(refusal(disk::parse(both, 0)).contains("goes with none of reads or writes"));
    let near = "path=a,format=raw,throttling.iops-totla=1";
    assert!(refusal(disk::parse(near, 0)).contains("did you mean 'throttling.iops-total'"));
}

#[test]
fn rules_of_faults_say_which_requests_and_what_happens() {
    let text = "path=a,format=raw,inject=write:EIO:offset=1M:size=64K:after=2:times=1;flush:delay=100;\
                any:116";
    let faults = disk::parse(text, 0).unwrap().filters.faults;
    assert_eq!(faults.len(), 3);
    let (at, len, then) = (1 << 20, 65536, FaultThen::Fail(5));
    assert_eq!(faults[0], Fault { on: FaultOn::Write, at, len, after: 2, times: 1, then });
    assert_eq!((faults[1].on, faults[1].then), (FaultOn::Flush, FaultThen::Wait(100)));
    assert_eq!(faults[2].then, FaultThen::Fail(116));
    for (rule, reason) in [
        ("wriet:EIO", "did you mean 'write'"),
        ("write", "it does not say what happens"),
        ("write:EIO:delay=5", "it does not say what happens"),
        ("write:EWHAT", "'EWHAT' is not a key"),
        ("write:5000", "'5000' is not a key"),
        ("", "there is no operation ''"),
    ] {
        let text = refusal(disk::parse(&format!("path=a,format=raw,inject={rule};"), 0));
        assert!(text.contains(reason), "{rule}: {text}");
    }
}

#[test]
fn a_foreign_backend_has_no_image_keys() {
    assert!(disk::parse("vhost-user=/tmp/s", 0).is_ok());
    assert!(refusal(disk::parse("vhost-user=/tmp/s,path=a", 0)).contains("give one of the two"));
    assert!(disk::parse("vhost-user=/tmp/s,readonly", 0).is_err());
}

#[test]
fn an_nbd_export_names_its_disk_and_where_clients_connect() {
    let Export::Nbd(nbd) = export::parse("nbd,disk=d0,addr=localhost:10809").unwrap() else {
        panic!("an NBD export");
    };
    assert_eq!((nbd.name.as_str(), nbd.tls), ("d0", None));
    assert_eq!(nbd.listen, Address::Tcp("127.0.0.1:10809".parse().unwrap()));
    let Export::Nbd(nbd) =
        export::parse("nbd,disk=d0,socket=/tmp/s,name=a b,readonly,tls-creds=/etc/pki").unwrap()
    else {
        panic!("an NBD export");
    };
    assert!(nbd.read_only && nbd.name == "a b" && nbd.tls.is_some_and(|tls| tls.verify));
    for (text, reason) in [
        ("nbd,disk=d0", "it says not where"),
        ("nbd,socket=/tmp/s", "'disk' is missing"),
        ("nbd,disk=d0,socket=/tmp/s,addr=1.2.3.4:5", "both a socket and an address"),
        ("nbd,disk=d0,addr=host:5", "'host' is no IP address"),
        ("nbd,disk=d0,addr=10809", "'addr' names no port"),
        ("nbd,disk=d0,socket=/tmp/s,tls-verify", "'tls-verify' without certificates"),
        ("nbd,disk=d0,socket=/tmp/s,tls-psk=k", "pre-shared keys"),
        ("nbd,disk=d0,socket=/tmp/s,queues=2", "'queues' is not a key of it"),
    ] {
        assert!(refusal(export::parse(text)).contains(reason), "{text}");
    }
}

#[test]
fn an_export_names_its_kind_disk_and_socket() {
    let export = export::parse("vhost-user-blk,disk=d0,socket=/tmp/s,queues=2").unwrap();
    let Export::VhostUser(export) = export else { panic!("{export:?}") };
    assert_eq!((export.disk.as_str(), export.queues), ("d0", 2));
    assert!(refusal(export::parse("disk=d0,socket=/tmp/s")).contains("vhost-user-blk"));
    assert!(refusal(export::parse("vhost-user-blk,disk=d0")).contains("'socket' is missing"));
}

fn vm(options: RunOptions) -> anyhow::Result<RunPlan> {
    spec::vm(options, &|vcpus| Choice { engine: EngineSpec::Kvm, why: format!("for {vcpus}") })
}

#[test]
fn an_engine_is_asked_for_by_name_or_chosen() {
    assert_eq!(Cpu::parse(None).unwrap(), Cpu::Auto);
    assert_eq!(Cpu::parse(Some("auto")).unwrap(), Cpu::Auto);
    assert_eq!(Cpu::parse(Some("kvm")).unwrap(), Cpu::Kvm);
    let compiling = Cpu::Soft(SoftSpec { jit: true, trace: false }, None);
    assert_eq!(Cpu::parse(Some("soft")).unwrap(), compiling);
    assert_eq!(Cpu::parse(Some("soft,jit=on")).unwrap(), compiling);
    let interpreting = Cpu::Soft(SoftSpec { jit: false, trace: false }, None);
    assert_eq!(Cpu::parse(Some("soft,jit=off")).unwrap(), interpreting);
    let traced = Cpu::Soft(SoftSpec { jit: true, trace: true }, Some("a,b".into()));
    assert_eq!(Cpu::parse(Some("soft,trace=a,,b")).unwrap(), traced);
}

#[test]
fn an_engine_that_is_not_there_or_has_no_such_key_is_refused() {
    let wrong = [
        ("sotf", "there is no such engine; did you mean 'soft'?"),
        ("", "there is no such engine; known are auto, kvm, soft"),
        ("kvm,jit=on", "'jit=on' is for software; write kvm alone, or soft,jit=on"),
        ("soft,jit=maybe", "'jit=maybe' is neither on nor off; write on or off"),
        ("soft,trcae=x", "'trcae' is not a key of it; did you mean 'trace'?"),
        ("soft,trace=", "'trace' has no value; write trace=…"),
        ("soft,trace", "'trace' has no value; write trace=…"),
    ];
    for (text, reason) in wrong {
        assert_eq!(refusal(Cpu::parse(Some(text))), format!("--cpu: {text}: {reason}"));
    }
}

#[test]
fn a_trace_needs_a_command_that_stays() {
    let cpu = Some("soft,trace=t".to_owned());
    assert!(vm(RunOptions { cpu: cpu.clone(), ..options() }).is_ok());
    let detached = refusal(vm(RunOptions { cpu, detach: true, ..options() }));
    assert!(detached.starts_with("--cpu: soft,trace=t: nobody would write it"), "{detached}");
}

#[test]
fn only_a_choice_that_was_left_open_is_told() {
    assert_eq!(vm(options()).unwrap().chosen.as_deref(), Some("for 1"));
    let asked = RunOptions { cpu: Some("soft".into()), ..options() };
    assert_eq!(vm(asked).unwrap().chosen, None);
}

fn options() -> RunOptions {
    RunOptions { kernel: Some("k".into()), ..RunOptions::default() }
}

#[test]
fn a_vm_needs_a_kernel_memory_and_a_sensible_number_of_cpus() {
    assert!(refusal(vm(RunOptions::default())).starts_with("--kernel: "));
    let zero = RunOptions { memory: Some("0".into()), ..options() };
    assert!(refusal(vm(zero)).starts_with("--memory: 0: "));
    let many = RunOptions { cpus: Some("17".into()), ..options() };
    assert_eq!(
        refusal(vm(many)),
        "--cpus: 17: it is out of range; give a whole number from 1 to 16"
    );
}

#[test]
fn two_disks_of_one_id_are_refused() {
    let disks = vec!["path=a,format=raw,id=x".to_owned(), "path=b,format=raw,id=x".to_owned()];
    assert!(refusal(vm(RunOptions { disks, ..options() })).contains("taken by another disk"));
}

#[test]
fn a_file_gives_what_the_options_leave_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.toml");
    let text = "name='web'\nkernel='k2'\nmemory='1G'\ncpus=2\n[[disk]]\npath='a,b'\nformat='raw'\nreadonly=true\n";
    std::fs::write(&path, text).unwrap();
    let given =
        RunOptions { file: Some(path), memory: Some("64M".into()), ..RunOptions::default() };
    let Spec::Vm(vm) = vm(given).unwrap().spec else { panic!("a VM") };
    assert_eq!((vm.name.as_str(), vm.memory, vm.cpus, vm.disks.len()), ("web", 64 << 20, 2, 1));
}

#[test]
fn an_unknown_key_of_the_file_names_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.toml");
    std::fs::write(&path, "kernal='k'\n").unwrap();
    let given = RunOptions { file: Some(path), ..RunOptions::default() };
    assert!(refusal(vm(given)).contains("did you mean 'kernel'?"));
}

#[test]
fn console_and_serial_do_not_share_stdio_unasked() {
    let both =
        RunOptions { console: Some("stdio".into()), serial: Some("stdio".into()), ..options() };
    assert!(refusal(vm(both)).contains("the console is there already"));
    let plan = vm(RunOptions { console: Some("stdio".into()), ..options() }).unwrap();
    assert_eq!(plan.serial, super::Serial::Off);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        let _ = disk::parse(&text, 0);
        let _ = export::parse(&text);
        let _ = size::parse(&text);
        let _ = keyed::nearest(&text, &["a", "b"]);
    }
}
