//! The guest's console as somebody sits at it: waits until it says something, and types.
//!
//! Law: no wait passes or fails by how long it took; patience ends only for a guest that is stuck.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long the guest may be silent about what is waited for: far longer than it ever is.
const PATIENCE: Duration = Duration::from_secs(400);

#[derive(Debug, Default)]
struct Said {
    text: String,
    /// How much of it was waited for already.
    heard: usize,
    ended: bool,
}

/// A running `bulkhead` whose guest has its console on stdin and stdout; killed on drop.
#[derive(Debug)]
pub struct Console {
    child: Child,
    keyboard: ChildStdin,
    said: Arc<(Mutex<Said>, Condvar)>,
}

impl Console {
    /// The console of a command whose stdin and stdout are pipes.
    pub(crate) fn new(mut child: Child) -> Self {
        let keyboard = child.stdin.take().expect("stdin is a pipe");
        let screen = child.stdout.take().expect("stdout is a pipe");
        let said = Arc::new((Mutex::default(), Condvar::new()));
        let told = Arc::clone(&said);
        std::thread::spawn(move || listen(screen, &told));
        Self { child, keyboard, said }
    }

    /// Waits until the guest says `words`, after everything that was waited for before.
    pub fn wait_for(&mut self, words: &str) {
        let heard = |said: &Said| said.text[said.heard..].find(words).map(|at| at + words.len());
        let (said, news) = &*self.said;
        let wait = |said: &mut Said| heard(said).is_none() && !said.ended;
        let said = said.lock().expect("the listener does not panic");
        let (mut said, _) = news.wait_timeout_while(said, PATIENCE, wait).expect("as above");
        match heard(&said) {
            Some(len) => said.heard += len,
            None => panic!("the guest did not say {words:?} but:\n{}", said.text),
        }
    }

    /// Types a line.
    pub fn say(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").expect("bulkhead reads its stdin");
    }

    /// Waits until the VM has ended; its exit code, and all that the guest said.
    pub fn end(mut self) -> (Option<i32>, String) {
        {
            let (said, news) = &*self.said;
            let said = said.lock().expect("the listener does not panic");
            let (said, _) =
                news.wait_timeout_while(said, PATIENCE, |said| !said.ended).expect("as above");
            assert!(said.ended, "the VM did not end; its guest said:\n{}", said.text);
        }
        let status = self.child.wait().expect("a status");
        let said = self.said.0.lock().expect("the listener does not panic");
        (status.code(), said.text.clone())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // One that has ended is reaped already: both calls say so, and nothing is to be done.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(mut screen: ChildStdout, (said, news): &(Mutex<Said>, Condvar)) {
    let mut bytes = [0; 4096];
    loop {
        let len = screen.read(&mut bytes).unwrap_or(0);
        let mut said = said.lock().expect("those who wait do not panic while they hold it");
        said.text.extend(String::from_utf8_lossy(&bytes[..len]).chars().filter(|c| *c != '\r'));
        said.ended = len == 0;
        news.notify_all();
        if said.ended {
            return;
        }
    }
}
