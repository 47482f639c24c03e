//! The real process under its release filter: output, input, viewers and streams that come and go.
//!
//! A call that the profile lacks kills the process by SIGSYS, and the test names the signal.

mod process;

use std::os::fd::AsFd;

use bulkhead_protocol::sink::SinkCommand;
use bulkhead_sys::seqpacket;
use process::{Process, read};

#[test]
fn output_is_kept_shown_and_followed_and_input_arrives() {
    let mut process = Process::start(65_536);
    process.write(b"before ");
    process.wait_until_seen(7);
    let viewer = process.viewer();
    assert_eq!(read(&viewer, 7), b"before ");
    process.write(b"after");
    assert_eq!(read(&viewer, 5), b"after");
    seqpacket::send(viewer.as_fd(), b"typed", &[]).unwrap();
    assert_eq!(read(process.device(), 5), b"typed");
    process.stop();
}

#[test]
fn a_flood_of_output_under_slow_leaving_and_hostile_viewers() {
    let mut process = Process::start(65_536);
    let mut idle = Vec::new();
    let mut seen = 0;
    for round in 0..50_u64 {
        let viewer = process.viewer();
        match round % 3 {
            0 => idle.push(viewer),
            1 => drop(seqpacket::send(viewer.as_fd(), b"x", &[viewer.as_fd(); 60])),
            _ => drop(viewer),
        }
        process.write(&[b'.'; 32_768]);
        seen += 32_768;
        process.wait_until_seen(seen);
    }
    process.stop();
}

#[test]
fn a_successors_stream_goes_on() {
    let mut process = Process::start(100);
    for round in 1..20 {
        process.write(b"abc");
        process.wait_until_seen(3 * round);
        let (ours, theirs) = seqpacket::stream_pair().unwrap();
        process.tell(SinkCommand::Stream, &theirs);
        process.replace_device(ours);
    }
    let viewer = process.viewer();
    assert_eq!(read(&viewer, 57), b"abc".repeat(19));
    process.stop();
}

#[test]
fn a_closed_channel_ends_the_process_with_0() {
    Process::start(1).hang_up();
}
