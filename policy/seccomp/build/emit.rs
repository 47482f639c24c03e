//! From instructions to Rust source.

use std::fmt::{self, Write};

use bulkhead_manifest::Manifest;
use bulkhead_manifest::filter::Filter;
use seccompiler::sock_filter;

/// All that is known of one profile.
pub struct Entry<'a> {
    /// The profile.
    pub manifest: &'a Manifest,
    /// The profile whose processes start this one's.
    pub under: Option<&'a str>,
    /// What it lets through.
    pub filter: Filter,
    /// The program that kills.
    pub kill: Vec<sock_filter>,
    /// The program that answers.
    pub errno: Option<Vec<sock_filter>>,
}

/// Appends one profile's entry.
pub fn program(source: &mut String, entry: &Entry<'_>) -> fmt::Result {
    let Entry { manifest, under, filter, kill, errno } = entry;
    writeln!(source, "    Program {{")?;
    writeln!(source, "        profile: {:?},", manifest.class)?;
    writeln!(source, "        under: {under:?},")?;
    writeln!(source, "        own: {},", manifest.own_syscalls().count())?;
    writeln!(source, "        calls: &[")?;
    for call in &filter.allowed {
        let filtered = !call.rules.is_empty();
        let (name, number) = (&call.name, call.number);
        let entry = format!("number: {number}, name: {name:?}, filtered: {filtered}");
        writeln!(source, "            AllowedCall {{ {entry} }},")?;
    }
    writeln!(source, "        ],")?;
    write!(source, "        kill: ")?;
    instructions(source, kill)?;
    write!(source, "        errno: ")?;
    match errno {
        None => writeln!(source, "None,")?,
        Some(program) => {
            writeln!(source, "Some(")?;
            instructions(source, program)?;
            writeln!(source, "        ),")?;
        }
    }
    writeln!(source, "    }},")
}

fn instructions(source: &mut String, program: &[sock_filter]) -> fmt::Result {
    writeln!(source, "&[")?;
    for instruction in program {
        let sock_filter { code, jt, jf, k } = instruction;
        writeln!(source, "            at({code:#06x}, {jt}, {jf}, {k:#010x}),")?;
    }
    writeln!(source, "        ],")
}

/// The whole table.
pub fn table(entries: &str) -> String {
    format!("static PROGRAMS: &[Program] = &[\n{entries}];\n")
}
