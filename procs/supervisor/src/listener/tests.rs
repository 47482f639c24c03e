use super::*;
use std::os::unix::net::UnixStream;

#[test]
fn the_name_appears_with_the_server_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut listener = Place::find(&path).unwrap().bind(Traffic::Stream).unwrap();
    assert!(!path.exists());
    listener.publish().unwrap();
    assert!(listener.accept().unwrap().is_none());
    let _client = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    drop(listener);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_instance_that_never_got_ready_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::find(&dir.path().join("s")).unwrap();
    drop(place.bind(Traffic::Messages).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let mut listener = Place::find(&path).unwrap().bind(Traffic::Stream).unwrap();
    listener.publish().unwrap();
    assert!(matches!(Place::find(&path), Err(ListenError::Taken)));
}

#[test]
fn what_is_no_socket_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut listener = Place::find(&path).unwrap().bind(Traffic::Stream).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Place::find(&path), Err(ListenError::NoSocket)));
    listener.publish().unwrap_err();
    drop(listener);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_path_longer_than_an_address_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let mut listener = Place::find(&deep.join("s")).unwrap().bind(Traffic::Stream).unwrap();
    listener.publish().unwrap();
    assert!(deep.join("s").exists());
}

#[test]
fn a_folder_is_no_place_for_a_socket() {
    assert!(matches!(Place::find(Path::new("..")), Err(ListenError::NoName)));
    assert!(matches!(Place::find(Path::new("/nowhere/s")), Err(ListenError::Host(_))));
}
