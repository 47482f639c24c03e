//! `bulkhead policy` and `bulkhead audit`: what is granted, and whether it is so.

use std::process::ExitCode;

use bulkhead_protocol::class::ProcessClass;
use bulkhead_protocol::control::ProcessInfo;
use bulkhead_protocol::launch::LayerState;
use bulkhead_report::audit::{self, Finding, Subject, Verdict};
use bulkhead_report::describe;

use crate::cli::{AuditOptions, Form, PolicyCommand, PolicyOptions};
use crate::instance::ps;
use crate::refusal::refuse;

/// System calls that a sealed process of this class may make.
pub fn allowed_syscalls(class: ProcessClass) -> usize {
    bulkhead_report::describe::manifest(class.name())
        .map_or(0, |manifest| describe::counts(&manifest).0)
}

/// Prints manifests.
pub fn show(options: &PolicyOptions) -> anyhow::Result<ExitCode> {
    let text = match &options.command {
        PolicyCommand::Show { class: None, format } => {
            describe::show(&describe::manifests()?, form(*format))
        }
        PolicyCommand::Show { class: Some(class), format } => {
            let names: Vec<&str> = describe::names().collect();
            if !names.contains(&class.as_str()) {
                let remedy = crate::options::nearest(class, &names);
                return Err(refuse("CLASS", class, "there is no such process class", &remedy));
            }
            describe::show(&[describe::manifest(class)?], form(*format))
        }
        PolicyCommand::Report { format } => {
            describe::report(&describe::manifests()?, form(*format))
        }
    };
    println!("{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

const fn form(form: Form) -> describe::Form {
    match form {
        Form::Text => describe::Form::Text,
        Form::Markdown => describe::Form::Markdown,
        Form::Json => describe::Form::Json,
    }
}

/// Compares an instance with its manifests; exit code 1 on a deviation.
pub fn audit(options: &AuditOptions) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    for process in ps::processes(&options.name)? {
        findings.extend(audit::examine(&subject(process))?);
    }
    let passes = audit::passes(&findings, options.accept_weaker);
    if options.json {
        let report = serde_json::json!({
            "instance": options.name,
            "passes": passes,
            "findings": findings,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        findings.iter().for_each(print);
        let count = |verdict| findings.iter().filter(|one| one.verdict == verdict).count();
        println!(
            "{}: {} as declared, {} not applicable, {} not observable, {} weakened, {} deviations: {}",
            options.name,
            count(Verdict::AsDeclared),
            count(Verdict::NotApplicable),
            count(Verdict::NotObservable),
            count(Verdict::Weakened),
            count(Verdict::Deviation),
            if passes { "passes" } else { "fails" }
        );
    }
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn subject(process: ProcessInfo) -> Subject {
    let mut weakened = Vec::new();
    let mut not_applicable = Vec::new();
    for (layer, state) in process.layers {
        match state {
            LayerState::Enforced => {}
            LayerState::Weakened(why) => weakened.push((layer.name().to_owned(), why)),
            LayerState::NotApplicable(why) => not_applicable.push((layer.name().to_owned(), why)),
        }
    }
    Subject {
        class: process.role.name().to_owned(),
        id: process.id,
        pid: process.pid,
        weakened,
        not_applicable,
    }
}

fn print(finding: &Finding) {
    let verdict = match finding.verdict {
        Verdict::AsDeclared => "as declared",
        Verdict::NotApplicable => "n/a",
        Verdict::NotObservable => "not observable",
        Verdict::Weakened => "WEAKENED",
        Verdict::Deviation => "DEVIATION",
    };
    let who = format!("{} {}", finding.role, finding.id);
    println!("{who:20} {:8} {:18} {verdict:14} {}", finding.pid, finding.check, finding.detail);
}
