//! `snapshot`: internal snapshots. Without an option they are listed, as by qemu-img.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bulkhead_block_layer::qcow2::{Options, Qcow2, Snapshot};
use bulkhead_block_layer::storage::Plain;
use bulkhead_block_layer::task::finish;

use crate::cli::{self, Chain};
use crate::disk::{Disk, Files, shut_after};
use crate::{seal, size};

/// `snapshot`
pub fn run(options: &cli::Snapshot) -> Result<ExitCode> {
    let changes = options.apply.is_some() || options.create.is_some() || options.delete.is_some();
    let files = Files::open(options.format, &options.file, &Chain::default(), !changes)?;
    seal::seal()?;
    // None of these looks at what lies below.
    let how = if changes { Options { alone: true, ..Options::WRITE } } else { Options::LOOK };
    let Disk::Qcow2(image) = files.disk(how)? else {
        bail!("{}: a raw image has no snapshots", options.file.display());
    };
    shut_after(&image, || change(&image, options))
}

fn change(image: &Qcow2<Plain>, options: &cli::Snapshot) -> Result<ExitCode> {
    if let Some(name) = &options.create {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let done = finish(image.snapshot_create(name, now.as_secs() as u32, now.subsec_nanos()));
        done.with_context(|| format!("Could not create snapshot '{name}'"))?;
    } else if let Some(name) = &options.apply {
        let done = finish(image.snapshot_apply(name));
        done.with_context(|| format!("Could not apply snapshot '{name}'"))?;
    } else if let Some(name) = &options.delete {
        let done = finish(image.snapshot_delete(name));
        done.with_context(|| format!("Could not delete snapshot '{name}'"))?;
    } else {
        print_list(&image.snapshots());
    }
    Ok(ExitCode::SUCCESS)
}

/// A table of them, nothing if there are none. Times are UTC: a sealed process knows no other zone.
pub fn print_list(snapshots: &[Snapshot]) {
    if snapshots.is_empty() {
        return;
    }
    println!("Snapshot list:");
    println!(
        "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}",
        "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"
    );
    for snapshot in snapshots {
        let size = size::human(snapshot.state_bytes);
        let date = date(snapshot.seconds.into());
        let clock = clock(snapshot.clock);
        let icount = snapshot.icount.map_or(String::new(), |icount| icount.to_string());
        let (id, name) = (&snapshot.id, &snapshot.name);
        println!("{id:<9} {name:<16} {size:>8}{date:>20}{clock:>13}{icount:>11}");
    }
}

/// `1970-01-01 00:00:00`
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Years that begin in March end with the day that comes and goes.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// `00:00:00.000`
fn clock(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{rest:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_404_049, "2026-11-23 03:20:49"),
            (4_107_542_399, "2100-02-28 23:59:59"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert_eq!(clock(3_723_004_000_000), "01:02:03.004");
    }
}
