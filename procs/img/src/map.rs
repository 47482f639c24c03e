//! `map`

use std::process::ExitCode;

use anyhow::Result;
use bulkhead_block_layer::qcow2::Options;
use serde_json::json;

use crate::cli::{self, Output};
use crate::disk::Files;
use crate::seal;

/// `map`
pub fn run(options: &cli::Map) -> Result<ExitCode> {
    let files = Files::open(options.format, &options.file, &options.chain, true)?;
    seal::seal()?;
    let ranges = files.disk(Options::READ)?.ranges()?;
    if options.output == Output::Json {
        let lines = ranges.iter().map(|range| {
            let mut line = json!({
                "start": range.start,
                "length": range.length,
                "depth": range.depth,
                "present": range.present,
                "zero": range.zero,
                "data": range.data,
            });
            if let Some(offset) = range.offset {
                line["offset"] = json!(offset);
            }
            line
        });
        println!("{}", serde_json::to_string_pretty(&lines.collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<String> = std::iter::once(&options.file)
        .chain(options.chain.backing.iter().map(|(_, path)| path))
        .map(|path| path.display().to_string())
        .collect();
    println!("{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to");
    for range in ranges.iter().filter(|range| range.data) {
        let name = names.get(range.depth as usize).map_or("", String::as_str);
        let place = range.offset.map_or("compressed".to_owned(), |offset| format!("{offset:#x}"));
        println!("{:<#16x}{:<#16x}{place:<16}{name}", range.start, range.length);
    }
    Ok(ExitCode::SUCCESS)
}
