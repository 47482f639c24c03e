//! A debugger's process: its plan, and core's end of their channel.
//!
//! Each gdb process has a fresh channel to core, of which no end stays here: core sees a death by it, lets
//! the guest go and takes the next one.

use bulkhead_protocol::core::CoreCommand;
use bulkhead_protocol::gdb::GdbCommand;
use bulkhead_sys::seqpacket;

use super::Instance;
use super::token::PostIndex;

use std::os::fd::AsFd;

impl Instance {
    /// Hands a gdb process the listening socket and its end of a channel to core.
    pub(super) fn plan_gdb(&mut self, post: PostIndex) {
        let (Some(gdb), Some(planned)) = (&self.plan.gdb, &self.plan.machine) else {
            return;
        };
        let Some(listener) = gdb.door.listener() else {
            return;
        };
        let (of_core, its) = match seqpacket::pair() {
            Ok(ends) => ends,
            Err(error) => {
                return self.condemn(post, format!("there is no channel for it: {error}"));
            }
        };
        let command = GdbCommand::Plan { vcpus: planned.cpus as u8 };
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &[listener, its.as_fd()]);
        }
        self.was_planned(post);
        if let Some(machine) = &mut self.machine {
            machine.debugger = Some(of_core);
        }
        self.hand_debugger();
    }

    /// Hands core its end, as soon as core has its plan.
    pub(super) fn hand_debugger(&mut self) {
        if !self.core_is_planned() {
            return;
        }
        if let Some(end) = self.machine.as_mut().and_then(|machine| machine.debugger.take()) {
            self.tell_core(CoreCommand::Debugger, &[end.as_fd()]);
        }
    }

    /// Shows the socket to debuggers.
    pub(super) fn publish_gdb(&mut self) {
        if let Some(Err(error)) = self.plan.gdb.as_mut().map(|gdb| gdb.door.publish()) {
            self.fail(format!("the socket for gdb cannot be shown: {error}"));
        }
    }
}
