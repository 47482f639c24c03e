//! The end of a cancelled job whose target's server says nothing.
//!
//! A cancelled job waits for what it has asked, since nothing is dropped half way, and a server that is silent or
//! away would keep it for ever. So it is looked at from time to time until it has ended, and a server that has been
//! quiet for too long meanwhile is left: what it was asked fails, and the disk stays as it is.
//!
//! A server that merely is slow is waited for: every byte counts. A job that was ready and is to leave a whole copy
//! behind has more patience, since a flush may take long; who has not cancels it once more.

use std::rc::Rc;
use std::time::Duration;

use super::Executor;
use crate::clock::{Clock, wait_until};
use crate::job::{Control, JobState};
use crate::remote::Enlisted;

/// How long a server may be quiet when nobody wants anything of it any more.
const QUIET: Duration = Duration::from_secs(3);

/// The same while a whole copy is still wanted.
const QUIET_AT_THE_END: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

impl Executor {
    /// Somebody has cancelled a job.
    pub(super) fn let_go(&mut self, job: &str) {
        let (Some(graph), Some((control, server))) = (&mut self.graph, self.jobs.on_server(job))
        else {
            return;
        };
        let remotes = graph.desk().remotes();
        if let Some(remote) = remotes.iter().find(|remote| remote.layer() == server) {
            let clock = Rc::clone(graph.disk().clock());
            graph.spawn(see_off(control, remote.enlist(), clock));
        }
    }
}

async fn see_off(control: Rc<Control>, server: Enlisted, clock: Rc<dyn Clock>) {
    let begun = clock.now();
    loop {
        wait_until(&clock, clock.now() + LOOK).await;
        let Some(remote) = server.remote().filter(|_| !is_over(&control)) else {
            return;
        };
        let most = if control.is_cancelled() { QUIET } else { QUIET_AT_THE_END };
        let quiet = remote.quiet_since().map(|since| since.max(begun) + most);
        if quiet.is_some_and(|until| until <= clock.now()) {
            // No copy is whole that it has not confirmed.
            control.cancel(true);
            return remote.abandon();
        }
    }
}

fn is_over(control: &Control) -> bool {
    control.status().state == JobState::Concluded
}
