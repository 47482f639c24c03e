//! The software CPU: its plan, and what it tells beside its life.

use std::os::fd::AsFd;

use bulkhead_protocol::control::Response;
use bulkhead_protocol::event::EventKind;
use bulkhead_protocol::soft_cpu::{LONGEST_INSTRUCTION, SoftCpuCommand, SoftCpuEvent, Unknown};

use super::control::MOST_CALLS;
use super::post::Role;
use super::token::PostIndex;
use super::{Instance, Outcome};
use crate::refusal::refuse;

impl Instance {
    /// Hands soft-cpu RAM, its ends of what leads to core, and the trace stream if one is wanted.
    pub(super) fn plan_soft_cpu(&mut self, post: PostIndex) {
        let trace = self.streams.trace.take();
        let (Some(planned), Some(machine)) = (&self.plan.machine, &self.machine) else {
            return;
        };
        let vcpus = planned.cpus as u8;
        let command =
            SoftCpuCommand::Plan { vcpus, memory: planned.memory, trace: trace.is_some() };
        let mut fds = machine.fds_of_soft_cpu();
        fds.extend(trace.iter().map(AsFd::as_fd));
        if let Some(process) = self.posts.get_mut(post).and_then(|post| post.process_mut()) {
            let _ = process.command(command, &fds);
        }
        self.was_planned(post);
        self.cut_cords();
    }

    /// News from soft-cpu.
    pub(super) fn on_soft_cpu(&mut self, event: SoftCpuEvent) {
        match event {
            SoftCpuEvent::Refused { missing } => {
                let is_shown = |character: &char| character.is_ascii_graphic() || *character == ' ';
                let missing: String = missing.chars().filter(is_shown).collect();
                let reason = format!("this host's processor lacks {missing}");
                let remedy = "take --cpu kvm, or a host with a newer processor";
                self.conclude(Outcome::Refused(refuse("--cpu", "soft", reason, remedy)));
            }
            SoftCpuEvent::Counted(counters) => {
                for call in std::mem::take(&mut self.counts) {
                    self.answer(call, Response::Counters(Some(counters)), &[]);
                }
            }
            SoftCpuEvent::Unknown(Unknown { seen, rip, bytes }) => {
                let bytes = bytes.iter().take(LONGEST_INSTRUCTION);
                let bytes: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
                let bytes = bytes.join(" ");
                self.tell(EventKind::UnknownInstruction { seen, rip, bytes });
            }
        }
    }

    /// Asks soft-cpu what it has counted, for a client.
    pub(super) fn count(&mut self, call: u64) {
        let post = self.posts.iter().position(|post| matches!(post.role, Role::SoftCpu(_)));
        let Some(post) = post else {
            return self.answer(call, Response::Counters(None), &[]);
        };
        let serving = self.posts.get_mut(post).and_then(|post| post.planned_mut());
        let asked = serving.map(|process| process.command(SoftCpuCommand::Count, &[]));
        match asked {
            Some(Ok(())) if self.counts.len() < MOST_CALLS => self.counts.push(call),
            _ => self.answer(call, Response::Refused("its software CPU is busy".into()), &[]),
        }
        self.watch_room(post);
    }
}
