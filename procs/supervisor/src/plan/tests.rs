use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::nbd::MOST_PEM;
use bulkhead_protocol::spec::*;

use super::*;

/// A folder with helpers, a runtime directory, a kernel and an image.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "run"] {
            std::fs::create_dir(host.path(folder)).unwrap();
        }
        for class in ProcessClass::ALL {
            File::create(host.path("bin").join(class.binary())).unwrap();
        }
        std::fs::write(host.path("kernel"), [0x7f; 4096]).unwrap();
        host.image("disk", 1 << 20);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    fn roots(&self) -> Roots {
        let open = |name| File::open(self.path(name)).unwrap().into();
        Roots { binaries: open("bin"), runtime: open("run") }
    }

    fn vm(&self) -> VmSpec {
        VmSpec {
            name: "vm".into(),
            kernel: self.path("kernel"),
            initrd: None,
            append: "quiet".into(),
            cpus: 1,
            memory: 64 << 20,
            disks: vec![self.disk("d0", "disk")],
            console: true,
            rng: true,
            no_reboot: false,
            on_crash: OnCrash::Stop,
            engine: bulkhead_protocol::spec::EngineSpec::Kvm,
            debug_exit: None,
            gdb: None,
            nbd: vec![],
            weaker: vec![],
        }
    }

    fn disk(&self, id: &str, file: &str) -> DiskSpec {
        DiskSpec {
            verify: None,
            id: id.into(),
            source: DiskSource::Image {
                path: self.path(file),
                server: None,
                format: Format::Raw(Default::default()),
                cache: CacheMode::Writeback,
                discard: false,
                read_only: false,
            },
            serial: String::new(),
            queues: 1,
            cpu: None,
            filters: Default::default(),
            on_error: Default::default(),
            aio: Default::default(),
        }
    }

    fn storage(&self) -> StorageSpec {
        StorageSpec {
            name: "st".into(),
            disks: vec![self.disk("d0", "disk")],
            exports: vec![ExportSpec {
                disk: "d0".into(),
                socket: self.path("socket"),
                queues: 2,
                read_only: false,
            }],
            nbd: vec![],
            weaker: vec![],
        }
    }

    fn make(&self, spec: Spec) -> Result<Plan, Refusal> {
        Plan::make(&spec, self.roots(), false)
    }

    /// The refusal of a VM spec that `change` spoils; nothing may be left of it.
    fn refused(&self, change: impl FnOnce(&mut VmSpec)) -> Refusal {
        let mut spec = self.vm();
        change(&mut spec);
        self.refused_spec(Spec::Vm(spec))
    }

    fn refused_storage(&self, change: impl FnOnce(&mut StorageSpec)) -> Refusal {
        let mut spec = self.storage();
        change(&mut spec);
        self.refused_spec(Spec::Storage(spec))
    }

    fn refused_spec(&self, spec: Spec) -> Refusal {
        let before = self.entries();
        let refusal = self.make(spec).expect_err("it was planned");
        assert_eq!(self.entries(), before, "something was left behind");
        refusal
    }

    fn entries(&self) -> Vec<PathBuf> {
        let list = |path: PathBuf| std::fs::read_dir(path).unwrap().flatten().map(|e| e.path());
        let mut all: Vec<_> = list(self.path("run")).chain(list(self.path(""))).collect();
        all.sort();
        all
    }
}

fn says(refusal: &Refusal, option: &str, value: &str, reason: &str) {
    let line = refusal.to_string();
    assert_eq!(refusal.option, option, "{line}");
    assert!(refusal.value.contains(value), "{line}");
    assert!(refusal.reason.contains(reason), "{line}");
    assert!(!refusal.remedy.is_empty() && !line.contains('\n'), "{line}");
}

fn source(spec: &mut VmSpec, path: PathBuf) {
    let DiskSource::Image { path: old, .. } = &mut spec.disks[0].source else {
        panic!("not an image");
    };
    *old = path;
}

fn is_root() -> bool {
    bulkhead_sys::identity::is_root()
}

#[test]
fn a_good_spec_is_planned_and_leaves_nothing_when_it_ends() {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("no /dev/kvm: not tested");
        return;
    }
    let host = Host::new();
    let before = host.entries();
    let plan = host.make(Spec::Vm(host.vm())).unwrap();
    assert!(host.path("run/vm/state.json").exists());
    assert_eq!(plan.disks[0].queues(), 1);
    drop(plan);
    assert_eq!(host.entries(), before);
}

#[test]
fn a_dry_run_makes_nothing_and_names_every_process() {
    let host = Host::new();
    let before = host.entries();
    let plan = Plan::make(&Spec::Storage(host.storage()), host.roots(), true).unwrap();
    assert_eq!(host.entries(), before);
    let text = plan.to_string();
    for word in ["supervisor", "launcher", "control", "block-layer d0", "vhost-blk d0", "socket"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let host = Host::new();
    says(&host.refused(|vm| vm.cpus = 17), "--cpus", "17", "1 to 16");
    says(&host.refused(|vm| vm.cpus = 0), "--cpus", "0", "1 to 16");
    says(&host.refused(|vm| vm.memory = 0), "--memory", "0", "no kernel fits");
    says(&host.refused(|vm| vm.memory += 1), "--memory", "67108865", "multiple");
    says(&host.refused(|vm| vm.memory = 1 << 45), "--memory", "", "this host has");
    says(&host.refused(|vm| vm.disks[0].queues = 17), "--disk d0", "17", "1 to 16");
    says(&host.refused(|vm| vm.disks[0].cpu = Some(4_000)), "--disk d0", "4000", "CPUs");
}

#[test]
fn kernels_and_initrds_that_cannot_be_are_refused() {
    let host = Host::new();
    let kernel = |path: PathBuf| host.refused(|vm| vm.kernel = path);
    says(&kernel(host.path("none")), "--kernel", "none", "no such file");
    says(&kernel(host.path("bin")), "--kernel", "bin", "a directory");
    says(&kernel("/dev/null".into()), "--kernel", "/dev/null", "no regular file");
    says(&kernel(host.image("big", 65 << 20)), "--kernel", "big", "do not fit");
    says(&kernel(host.image("empty", 0)), "--kernel", "empty", "empty");
    let initrd = |path: PathBuf| host.refused(|vm| vm.initrd = Some(path));
    says(&initrd(host.path("none")), "--initrd", "none", "no such file");
    says(&initrd(host.path("big")), "--initrd", "big", "do not fit");
    says(&host.refused(|vm| vm.append = "x".repeat(3_000)), "--append", "xxx", "2047");
    says(&host.refused(|vm| vm.append = "a\nb".into()), "--append", "a?b", "control");
}

#[test]
fn images_that_cannot_be_are_refused() {
    let host = Host::new();
    let disk = |path: PathBuf| {
        host.refused_storage(|storage| {
            let DiskSource::Image { path: old, .. } = &mut storage.disks[0].source else {
                panic!("not an image");
            };
            *old = path;
        })
    };
    says(&disk(host.path("none")), "--disk d0", "none", "no such file");
    says(&disk(host.path("bin")), "--disk d0", "bin", "a directory");
    says(&disk(host.image("odd", 1_000)), "--disk d0", "odd", "1000 bytes is no multiple of 512");
    says(&disk(host.image("empty", 0)), "--disk d0", "empty", "empty");
    says(&disk("/dev/null".into()), "--disk d0", "/dev/null", "no file or block device");
}

#[test]
fn an_unreadable_file_is_refused_to_an_ordinary_user() {
    if is_root() {
        eprintln!("root may read everything: not tested");
        return;
    }
    let host = Host::new();
    for file in ["kernel", "disk"] {
        std::fs::set_permissions(host.path(file), PermissionsExt::from_mode(0o000)).unwrap();
    }
    says(&host.refused(|_| ()), "--kernel", "kernel", "may not open");
    let refusal = host.refused_storage(|_| ());
    says(&refusal, "--disk d0", "disk", "may not open it for writing");
}

#[test]
fn an_image_in_use_is_refused_and_its_user_named() {
    let host = Host::new();
    let _first = host.make(Spec::Storage(host.storage())).unwrap();
    let refusal = host.refused_storage(|storage| {
        storage.name = "other".into();
        storage.exports[0].socket = host.path("other-socket");
    });
    says(&refusal, "--disk d0", "disk", "locked by storage st (disk d0)");
    let twice = host.refused_storage(|storage| {
        storage.name = "twice".into();
        storage.disks = vec![host.disk("a", "second"), host.disk("b", "second")];
        host.image("second", 512);
    });
    says(&twice, "--disk b", "second", "disk a of this very instance");
}

#[test]
fn names_are_checked_and_had_once() {
    let host = Host::new();
    let name = |name: &str| host.refused(|vm| vm.name = name.into());
    says(&name(""), "--name", "", "at least one");
    says(&name("../x"), "--name", "../x", "letters, digits");
    says(&name(".x"), "--name", ".x", "begins with");
    says(&name(&"x".repeat(49)), "--name", "xxx", "at most 48");
    says(&host.refused(|vm| vm.disks.push(vm.disks[0].clone())), "--disk id", "d0", "another disk");
    says(&host.refused(|vm| vm.disks[0].serial = "x".repeat(21)), "--disk d0", "xxx", "at most 20");
    let _first = host.make(Spec::Storage(host.storage())).unwrap();
    let refusal = host.refused(|vm| vm.name = "st".into());
    says(&refusal, "--name", "st", &format!("runs (pid {})", std::process::id()));
}

#[test]
fn exports_that_cannot_be_are_refused() {
    let host = Host::new();
    let export = |change: fn(&mut StorageSpec)| host.refused_storage(change);
    says(&export(|s| s.exports[0].disk = "d9".into()), "--export d9", "d9", "no such disk");
    says(&export(|s| s.exports.clear()), "--disk d0", "d0", "nothing exports it");
    says(
        &export(|s| s.exports.push(s.exports[0].clone())),
        "--export d0",
        "d0",
        "exported already",
    );
    std::fs::write(host.path("precious"), "x").unwrap();
    let refusal = host.refused_storage(|s| s.exports[0].socket = host.path("precious"));
    says(&refusal, "--export d0", "precious", "no socket");
    let _listener = std::os::unix::net::UnixListener::bind(host.path("live")).unwrap();
    let refusal = host.refused_storage(|s| s.exports[0].socket = host.path("live"));
    says(&refusal, "--export d0", "live", "another program listens");
}

fn nbd(host: &Host) -> NbdSpec {
    NbdSpec {
        id: String::new(),
        disk: "d0".into(),
        listen: Address::Path(host.path("nbd")),
        name: "disk".into(),
        description: String::new(),
        read_only: false,
        bitmap: None,
        tls: None,
    }
}

#[test]
fn nbd_exports_that_cannot_be_are_refused() {
    let host = Host::new();
    let option = "--export nbd,disk=d0";
    let export = |change: &dyn Fn(&mut NbdSpec)| {
        host.refused_storage(|storage| {
            let mut export = nbd(&host);
            change(&mut export);
            storage.nbd.push(export);
        })
    };
    let no_disk = export(&|nbd| nbd.disk = "d9".into());
    says(&no_disk, "--export nbd,disk=d9", "d9", "no such disk");
    let long = export(&|nbd| nbd.name = "x".repeat(257));
    says(&long, option, "xxx", "at most 256 printable bytes");
    says(&export(&|nbd| nbd.description = "a\nb".into()), option, "a", "printable");
    std::fs::write(host.path("precious"), "x").unwrap();
    let taken = export(&|nbd| nbd.listen = Address::Path(host.path("precious")));
    says(&taken, option, "precious", "no socket");
    let tls = |folder: &str| Some(TlsSpec { folder: host.path(folder), verify: true });
    says(&export(&|nbd| nbd.tls = tls("none")), option, "server-cert.pem", "no such file");
    std::fs::create_dir(host.path("pki")).unwrap();
    std::fs::write(host.path("pki/server-cert.pem"), vec![0; MOST_PEM + 1]).unwrap();
    says(&export(&|nbd| nbd.tls = tls("pki")), option, "server-cert.pem", "at most 16 KiB");
    let many = host.refused_storage(|storage| {
        storage.exports[0].queues = 16;
        storage.nbd.push(nbd(&host));
    });
    says(&many, option, "d0", "leave no room");
}

#[test]
fn a_disk_may_be_exported_by_nbd_alone() {
    let host = Host::new();
    let mut storage = host.storage();
    storage.exports.clear();
    storage.nbd.push(nbd(&host));
    let plan = host.make(Spec::Storage(storage)).unwrap();
    let text = plan.to_string();
    assert!(text.contains("nbd-server d0") && !text.contains("vhost-blk"), "{text}");
}

#[test]
fn a_foreign_backend_must_be_a_socket() {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("no /dev/kvm: not tested");
        return;
    }
    let host = Host::new();
    let foreign = |name: &str| {
        host.refused(|vm| {
            let socket = host.path(name);
            vm.disks[0].source = DiskSource::VhostUser { socket };
        })
    };
    says(&foreign("none"), "--disk d0", "none", "no such file");
    says(&foreign("disk"), "--disk d0", "disk", "no socket");
}

#[test]
fn a_missing_helper_is_an_installation_fault() {
    let host = Host::new();
    std::fs::remove_file(host.path("bin/bulkhead-block-layer")).unwrap();
    let refusal = host.refused_storage(|_| ());
    says(&refusal, "helper", "bulkhead-block-layer", "no such file");
}

#[test]
fn the_image_of_a_vm_is_locked_before_anything_starts() {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("no /dev/kvm: not tested");
        return;
    }
    let host = Host::new();
    let _vm = host.make(Spec::Vm(host.vm())).unwrap();
    let mut second = host.vm();
    second.name = "second".into();
    source(&mut second, host.path("disk"));
    let refusal = host.refused_spec(Spec::Vm(second));
    says(&refusal, "--disk d0", "disk", "locked by VM vm (disk d0)");
}
