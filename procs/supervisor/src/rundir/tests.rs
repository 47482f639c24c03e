use super::*;
use bulkhead_protocol::record::InstanceKind;

fn root() -> (tempfile::TempDir, impl Fn() -> OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, move || File::open(&path).unwrap().into())
}

fn record(name: &str) -> InstanceRecord {
    InstanceRecord {
        version: 1,
        name: name.into(),
        kind: InstanceKind::Storage,
        pid: 4711,
        started: 1,
        images: vec![],
        sockets: vec![],
        cgroups: vec![],
    }
}

/// As if its supervisor had been killed: the folder stays, its lock is free.
fn killed(instance: RunDir) {
    let instance = std::mem::ManuallyDrop::new(instance);
    nix::unistd::close(std::os::fd::AsRawFd::as_raw_fd(&instance._lock)).unwrap();
}

#[test]
fn a_name_is_had_once_and_its_owner_is_known() {
    let (_dir, root) = root();
    let first = RunDir::claim(root(), "a").unwrap();
    first.write_record(&record("a")).unwrap();
    let Err(ClaimError::Taken(Some(owner))) = RunDir::claim(root(), "a") else {
        panic!("the name was had twice");
    };
    assert_eq!(owner.pid, 4711);
    RunDir::claim(root(), "b").unwrap();
}

#[test]
fn a_dead_name_is_replaced_and_its_sockets_are_removed() {
    let (dir, root) = root();
    let socket = dir.path().join("export");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let first = RunDir::claim(root(), "a").unwrap();
    let mut left = record("a");
    left.sockets.push(socket.clone());
    first.write_record(&left).unwrap();
    std::fs::write(dir.path().join("a/control"), "").unwrap();
    killed(first);
    let second = RunDir::claim(root(), "a").unwrap();
    assert!(!socket.exists() && !dir.path().join("a/control").exists());
    second.write_record(&record("a")).unwrap();
}

#[test]
fn an_instance_that_ends_leaves_nothing() {
    let (dir, root) = root();
    let instance = RunDir::claim(root(), "a").unwrap();
    instance.write_record(&record("a")).unwrap();
    drop(instance);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_dead_are_collected_and_the_living_are_not() {
    let (dir, root) = root();
    let living_one = RunDir::claim(root(), "living").unwrap();
    living_one.write_record(&record("living")).unwrap();
    killed(RunDir::claim(root(), "dead").unwrap());
    collect(root());
    assert!(dir.path().join("living/lock").exists());
    assert!(!dir.path().join("dead").exists());
    let names: Vec<_> = living(root()).into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["living"]);
}

#[test]
fn a_strangers_file_stops_the_removal() {
    let (dir, root) = root();
    let instance = RunDir::claim(root(), "a").unwrap();
    std::fs::write(dir.path().join("a/precious"), "x").unwrap();
    drop(instance);
    collect(root());
    assert!(dir.path().join("a/precious").exists());
}

#[test]
fn a_name_that_is_a_link_is_refused() {
    let (dir, root) = root();
    std::os::unix::fs::symlink("/tmp", dir.path().join("a")).unwrap();
    assert!(matches!(RunDir::claim(root(), "a"), Err(ClaimError::Host(_))));
}
