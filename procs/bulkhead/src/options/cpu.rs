//! `--cpu`: what executes the guest, as the user asks for it.
//!
//! Absent on purpose: how `auto` chooses, which is `choice`.

use std::path::PathBuf;

use bulkhead_protocol::spec::SoftSpec;

use super::keyed::{Keyed, nearest};
use crate::refusal::refuse;

const OPTION: &str = "--cpu";
const ENGINES: &[&str] = &["auto", "kvm", "soft"];
const KEYS: &[&str] = &["soft", "jit", "trace"];

/// Software as it is without the user's wishes.
pub const fn software() -> SoftSpec {
    SoftSpec { jit: true, trace: false }
}

/// What `--cpu` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpu {
    /// KVM where it is faster than software.
    Auto,
    /// KVM, or nothing.
    Kvm,
    /// Software, and the file for its trace.
    Soft(SoftSpec, Option<PathBuf>),
}

impl Cpu {
    /// Reads `--cpu`.
    pub fn parse(text: Option<&str>) -> anyhow::Result<Self> {
        let Some(text) = text else {
            return Ok(Self::Auto);
        };
        match text.split_once(',') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "kvm" => Ok(Self::Kvm),
            Some(("soft", _)) => soft(text),
            None if text == "soft" => soft(text),
            Some((engine @ ("auto" | "kvm"), keys)) => {
                let reason = format!("'{keys}' is for software");
                Err(refuse(OPTION, text, reason, &format!("write {engine} alone, or soft,{keys}")))
            }
            _ => {
                let engine = text.split(',').next().unwrap_or(text);
                Err(refuse(OPTION, text, "there is no such engine", &nearest(engine, ENGINES)))
            }
        }
    }
}

fn soft(text: &str) -> anyhow::Result<Cpu> {
    let mut keyed = Keyed::parse(OPTION, text, &[KEYS])?;
    keyed.switch("soft")?;
    let jit = keyed.choice("jit")?.unwrap_or(software().jit);
    let trace = keyed.value("trace")?.map(PathBuf::from);
    Ok(Cpu::Soft(SoftSpec { jit, trace: trace.is_some() }, trace))
}
