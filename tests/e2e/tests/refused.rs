//! Bad input: one line that names the option, the value and the remedy, exit code 2, nothing left.

mod stage;

use stage::{Lie, Stage, refused};

#[test]
fn a_kernel_that_is_missing() {
    let stage = Stage::new();
    refused(stage.run(&["--kernel", "/no/such/kernel"]), &["--kernel", "/no/such/kernel"]);
}

#[test]
fn a_kernel_that_is_a_directory() {
    let stage = Stage::new();
    refused(stage.run(&["--kernel", "/tmp"]), &["--kernel", "/tmp", "directory"]);
}

#[test]
fn a_kernel_that_is_no_kernel() {
    let stage = Stage::new();
    let text = stage.file("text", b"this is no kernel at all");
    refused(stage.run(&["--kernel", &text]), &["--kernel", "neither"]);
}

#[test]
fn no_kernel_at_all() {
    let stage = Stage::new();
    refused(stage.run(&[]), &["--kernel"]);
}

#[test]
fn a_disk_that_is_missing() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let disk = "path=/no/such/disk,format=raw";
    refused(stage.run(&["--kernel", &kernel, "--disk", disk]), &["--disk", "/no/such/disk"]);
}

#[test]
fn a_disk_that_is_a_directory() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    refused(
        stage.run(&["--kernel", &kernel, "--disk", "path=/tmp,format=raw"]),
        &["--disk", "/tmp"],
    );
}

#[test]
fn a_disk_whose_size_is_not_whole_sectors() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let odd = stage.file("odd.img", &[0; 1000]);
    let disk = format!("path={odd},format=raw");
    refused(stage.run(&["--kernel", &kernel, "--disk", &disk]), &["--disk", "512"]);
}

#[test]
fn a_format_that_is_not_served_or_not_said() {
    let stage = Stage::new();
    let disk = stage.image(1 << 20);
    for (format, word) in [(",format=vmdk", "vmdk"), ("", "format")] {
        let text = format!("path={disk}{format}");
        refused(stage.run(&["--kernel", "k", "--disk", &text]), &["--disk", word]);
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let stage = Stage::new();
    let disk = "path=a,fromat=raw";
    refused(stage.run(&["--kernel", "k", "--disk", disk]), &["--disk", "fromat", "format"]);
}

#[test]
fn an_unknown_option_names_the_nearest() {
    let stage = Stage::new();
    refused(stage.run(&["--kernle", "k"]), &["--kernle", "--kernel"]);
}

#[test]
fn memory_that_is_none_or_too_much() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    for memory in ["0", "1T", "99999999999999G", "lots"] {
        let arguments = ["--kernel", &kernel, "--memory", memory];
        refused(stage.run(&arguments), &["--memory", memory]);
    }
}

#[test]
fn a_debug_exit_port_that_is_none_or_taken() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    for port in ["banana", "0x10000", "0xfffd", "-1", "65533"] {
        let option = format!("--debug-exit={port}");
        refused(stage.run(&["--kernel", &kernel, &option]), &["--debug-exit", port]);
    }
    let output = stage.run(&["--kernel", &kernel, "--debug-exit=0x3f5"]);
    refused(output, &["--debug-exit", "0x3f5", "another device's"]);
}

#[test]
fn too_many_cpus() {
    let stage = Stage::new();
    refused(stage.run(&["--kernel", "k", "--cpus", "17"]), &["--cpus", "17", "16"]);
}

#[test]
fn an_initrd_that_does_not_fit() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let initrd = stage.image(256 << 20);
    let arguments = ["--kernel", &kernel, "--initrd", &initrd, "--memory", "64M"];
    refused(stage.run(&arguments), &["--initrd"]);
}

#[test]
fn two_disks_of_one_id() {
    let stage = Stage::new();
    let (a, b) = ("path=a,format=raw,id=x", "path=b,format=raw,id=x");
    refused(stage.run(&["--kernel", "k", "--disk", a, "--disk", b]), &["--disk", "'x'"]);
}

#[test]
fn one_image_for_two_disks() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let disk = format!("path={},format=raw", stage.image(1 << 20));
    let arguments = ["--kernel", &kernel, "--disk", &disk, "--disk", &disk];
    refused(stage.run(&arguments), &["--disk"]);
}

#[test]
fn a_disk_that_another_instance_holds_names_it() {
    let stage = Stage::new();
    let image = stage.image(1 << 20);
    let storage = stage.storage(&image);
    let kernel = stage.kernel();
    let disk = format!("path={image},format=raw");
    let output = stage.run(&["--kernel", &kernel, "--disk", &disk]);
    refused(output, &["--disk", &storage.name]);
}

#[test]
fn a_disk_that_another_program_holds() {
    let stage = Stage::new();
    let image = stage.image(1 << 20);
    let _held = stage.hold_by_qemu(&image);
    let kernel = stage.kernel();
    let disk = format!("path={image},format=raw");
    refused(stage.run(&["--kernel", &kernel, "--disk", &disk]), &["--disk", "lock"]);
}

#[test]
fn a_name_that_is_taken() {
    let stage = Stage::new();
    let storage = stage.storage(&stage.image(1 << 20));
    let other = format!("id=d0,path={},format=raw", stage.image(1 << 20));
    let export = format!("vhost-user-blk,disk=d0,socket={}", stage.path("other.sock"));
    let output =
        stage.command(&["storage", "--name", &storage.name, "--disk", &other, "--export", &export]);
    refused(output, &["--name", &storage.name]);
}

#[test]
fn an_export_of_a_disk_that_does_not_exist() {
    let stage = Stage::new();
    let disk = format!("id=d0,path={},format=raw", stage.image(1 << 20));
    let export = "vhost-user-blk,disk=d1,socket=/tmp/x";
    refused(stage.command(&["storage", "--disk", &disk, "--export", export]), &["--export", "d1"]);
}

#[test]
fn an_instance_that_does_not_run() {
    let stage = Stage::new();
    for command in ["pause", "resume", "shutdown", "kill", "events", "audit", "console"] {
        refused(
            stage.command(&[command, "no-such-instance"]),
            &["no-such-instance", "bulkhead ps"],
        );
    }
}

#[test]
fn a_backend_that_never_answers() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let socket = stage.silent_backend();
    let disk = format!("vhost-user={socket}");
    refused(stage.run(&["--kernel", &kernel, "--disk", &disk]), &["--disk"]);
}

#[test]
fn a_backend_that_lies_about_its_queues() {
    let lies = [
        Lie { asked: 1, config: 4 },
        Lie { asked: 1, config: 0 },
        Lie { asked: 1 << 40, config: 1 },
        Lie { asked: 0, config: 0 },
    ];
    for lie in lies {
        let stage = Stage::new();
        let kernel = stage.kernel();
        let socket = stage.lying_backend(lie);
        let disk = format!("vhost-user={socket}");
        let output = stage.run(&["--kernel", &kernel, "--disk", &disk]);
        refused(output, &["--disk", &socket, "queues"]);
    }
}

#[test]
fn a_backend_that_does_not_exist() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    let arguments = ["--kernel", &kernel, "--disk", "vhost-user=/no/such/socket"];
    refused(stage.run(&arguments), &["--disk", "/no/such/socket"]);
}

#[test]
fn a_host_without_landlock_or_namespaces() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    for layer in ["landlock", "user-namespace"] {
        let output = stage.run_without(layer, &["--kernel", &kernel]);
        refused(output, &[layer, "--allow-weaker-sandbox"]);
    }
}

#[test]
fn a_host_without_seccomp() {
    let stage = Stage::new();
    let kernel = stage.kernel();
    refused(stage.run_without("seccomp", &["--kernel", &kernel]), &["sandbox", "seccomp"]);
}

#[test]
fn a_user_without_permission_on_kvm() {
    let stage = Stage::new();
    if !stage.is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let kernel = stage.kernel();
    refused(stage.run_as_nobody(&["--cpu", "kvm", "--kernel", &kernel]), &["/dev/kvm"]);
}

#[test]
fn a_file_that_the_user_may_not_read() {
    let stage = Stage::new();
    if !stage.is_root() {
        eprintln!("skipped: root makes the unreadable file and becomes another user");
        return;
    }
    let secret = stage.unreadable();
    refused(stage.run_as_nobody(&["--kernel", &secret]), &["--kernel", &secret]);
}
