//! Who listens to what an instance tells, from its beginning to its end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};

use bulkhead_harness::programs;

/// The listener.
#[derive(Debug)]
pub struct Witness {
    events: Child,
    lines: JoinHandle<Vec<String>>,
}

impl Witness {
    /// Of the instance `name`, which runs.
    pub fn of(name: &str) -> Self {
        let mut events = programs::bulkhead();
        events.args(["events", name]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut events = events.spawn().expect("bulkhead starts");
        let lines = BufReader::new(events.stdout.take().expect("a pipe")).lines();
        let lines = thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { events, lines }
    }

    /// Every event, once the instance has ended.
    pub fn end(mut self) -> Vec<String> {
        self.events.wait().expect("its end");
        self.lines.join().expect("the listener")
    }
}
