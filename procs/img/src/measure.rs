//! `measure`: the room that an image would need.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bulkhead_block_layer::qcow2::Options;
use bulkhead_block_layer::qcow2::create::Wanted;
use serde_json::json;

use crate::cli::{self, Format, Output};
use crate::create::{Parsed, Preallocation};
use crate::disk::{Disk, Files};
use crate::seal;

/// `measure`
pub fn run(options: &cli::Measure) -> Result<ExitCode> {
    let parsed = Parsed::read(&options.options)?;
    let disk = match (&options.file, options.format, options.size) {
        (Some(file), Some(format), None) => {
            let files = Files::open(format, file, &options.chain, true)?;
            seal::seal()?;
            Some(files.disk(Options::READ)?)
        }
        (None, None, Some(_)) => None,
        _ => bail!("give either --size SIZE, or -f FORMAT and a disk"),
    };
    let size = disk.as_ref().map_or(options.size.unwrap_or(0), Disk::size).next_multiple_of(512);
    let (required, full) = match options.target_format {
        Format::Raw => (size, size),
        Format::Qcow2 => {
            let clusters = size.div_ceil(parsed.wanted.cluster_size);
            let data = match &disk {
                _ if parsed.preallocation != Preallocation::Off => clusters,
                None => 0,
                Some(disk) => used(disk, parsed.wanted.cluster_size)?,
            };
            let all = metadata(&parsed.wanted, size, clusters);
            let cluster = parsed.wanted.cluster_size;
            (all + data * cluster, all + clusters * cluster)
        }
    };
    match options.output {
        Output::Json => {
            let facts = json!({ "required": required, "fully-allocated": full });
            println!("{}", serde_json::to_string_pretty(&facts)?);
        }
        Output::Human => {
            println!("required size: {required}");
            println!("fully allocated size: {full}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Clusters that have something else than zeroes.
fn used(disk: &Disk, cluster: u64) -> Result<u64> {
    let (mut used, mut counted) = (0, 0);
    for range in disk.ranges()?.iter().filter(|range| !range.zero) {
        let first = (range.start / cluster).max(counted);
        let end = (range.start + range.length).div_ceil(cluster);
        used += end.saturating_sub(first);
        counted = counted.max(end);
    }
    Ok(used)
}

/// Bytes of an image whose every cluster is there, without those clusters.
fn metadata(wanted: &Wanted, size: u64, clusters: u64) -> u64 {
    let cluster = wanted.cluster_size;
    let entry = if wanted.extended_l2 { 16 } else { 8 };
    let tables = (clusters * entry).div_ceil(cluster);
    let l1 = (size.div_ceil(cluster / entry * cluster) * 8).div_ceil(cluster);
    let data = if wanted.data_file.is_some() { 0 } else { clusters };
    let without = 1 + tables + l1 + data;
    let counts = cluster * 8 / u64::from(wanted.refcount_bits);
    let (mut blocks, mut reftable) = (0, 0);
    loop {
        let next = (without + blocks + reftable).div_ceil(counts);
        let table = (next * 8).div_ceil(cluster);
        if (next, table) == (blocks, reftable) {
            break;
        }
        (blocks, reftable) = (next, table);
    }
    (1 + tables + l1 + blocks + reftable) * cluster
}
