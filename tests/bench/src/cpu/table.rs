//! The table, in Markdown: medians, and our speed as a multiple of TCG's.

use super::engine::Engine;
use super::{LOOPS, Measured};
use crate::report::median;

/// Boots: the row, and what it adds to the kernel's command line.
pub const BOOTS: [(&str, &str); 2] = [
    ("boot to marker, s", "cryptomgr.notests"),
    ("boot to marker with the kernel's crypto tests, s", ""),
];

/// Prints what was measured of `engines`, TCG first.
pub fn print(engines: &[Engine], measured: &Measured) {
    print!("| what |");
    for engine in engines {
        print!(" {engine} |");
        if *engine != Engine::Tcg {
            print!(" speed against TCG |");
        }
    }
    println!(" wanted |");
    println!("| --- |{} ---: |", " ---: |".repeat(engines.len() * 2 - 1));
    // A boot of r times TCG's duration has 1/r of its speed; wanted with translation: 0.7.
    for (row, _) in BOOTS {
        line(engines, measured, row, row, 1.0 / 0.7, |time, tcg| tcg / time);
    }
    for (row, what, wanted) in LOOPS {
        line(engines, measured, row, &format!("{what} a second"), *wanted, |own, tcg| own / tcg);
    }
}

fn line(
    engines: &[Engine],
    measured: &Measured,
    row: &'static str,
    what: &str,
    wanted: f64,
    speed: impl Fn(f64, f64) -> f64,
) {
    let of = |engine| measured.get(&(row, engine)).map(|figures| median(figures));
    let Some(tcg) = of(Engine::Tcg) else { return };
    print!("| {what} |");
    for engine in engines {
        let figure = of(*engine).unwrap_or(0.0);
        print!(" {} |", readable(figure));
        if *engine != Engine::Tcg {
            print!(" {:.2} |", speed(figure, tcg));
        }
    }
    println!(" {wanted:.1} |");
}

/// Three digits and a unit.
fn readable(figure: f64) -> String {
    let (scaled, unit) = match figure {
        figure if figure >= 1e9 => (figure / 1e9, " G"),
        figure if figure >= 1e6 => (figure / 1e6, " M"),
        figure if figure >= 1e3 => (figure / 1e3, " k"),
        figure => (figure, ""),
    };
    match scaled {
        scaled if scaled >= 100.0 => format!("{scaled:.0}{unit}"),
        scaled if scaled >= 10.0 => format!("{scaled:.1}{unit}"),
        scaled => format!("{scaled:.2}{unit}"),
    }
}
