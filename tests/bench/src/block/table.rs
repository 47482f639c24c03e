//! Lines of the table, and how those that are compared take turns.

use anyhow::Result;

use crate::report::median;

/// What one side reached in one turn.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// In the line's unit.
    pub value: f64,
    /// CPU seconds: of a command as a whole, of a server for each request.
    pub cpu: Option<f64>,
}

/// What a line counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests a second; CPU time of each.
    Requests,
    /// MiB a second.
    Mebibytes,
    /// Seconds that a command takes: less is better. CPU time of all of it.
    Seconds,
}

/// One of those that take turns.
pub type Turn<'a> = Box<dyn FnMut() -> Result<Figure> + 'a>;

/// One comparison.
#[derive(Debug)]
pub struct Line<'a> {
    /// What is done.
    pub what: &'a str,
    /// Who else does it.
    pub peer: &'a str,
    /// In which unit.
    pub unit: Unit,
    /// How many times as good ours is to be.
    pub wanted: f64,
}

/// The table's head.
pub fn header() {
    println!("| what | peer | its figure | ours | ratio | wanted |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
}

/// Lets each have its turn, `rounds` times.
pub fn take_turns(rounds: usize, turns: &mut [Turn<'_>]) -> Result<Vec<Vec<Figure>>> {
    let mut figures = vec![Vec::new(); turns.len()];
    for _ in 0..rounds {
        for (turn, figures) in turns.iter_mut().zip(&mut figures) {
            figures.push(turn()?);
        }
    }
    Ok(figures)
}

impl Line<'_> {
    /// Prints the comparison of medians.
    pub fn print(&self, theirs: &[Figure], ours: &[Figure]) {
        let (their, our) = (middle(theirs), middle(ours));
        let ratio = match self.unit {
            Unit::Seconds => their.value / our.value,
            Unit::Requests | Unit::Mebibytes => our.value / their.value,
        };
        let Self { what, peer, unit, wanted } = self;
        let (their, our) = (unit.text(their), unit.text(our));
        println!("| {what} | {peer} | {their} | {our} | {ratio:.2} | {wanted} |");
    }
}

/// A line for what has a bound and no peer.
pub fn bound(what: &str, ours: &str, wanted: &str) {
    println!("| {what} | | | {ours} | | {wanted} |");
}

fn middle(figures: &[Figure]) -> Figure {
    let value = median(&figures.iter().map(|figure| figure.value).collect::<Vec<_>>());
    let cpu: Vec<f64> = figures.iter().filter_map(|figure| figure.cpu).collect();
    Figure { value, cpu: (!cpu.is_empty()).then(|| median(&cpu)) }
}

impl Unit {
    fn text(self, figure: Figure) -> String {
        let Figure { value, cpu } = figure;
        let (text, cpu) = match self {
            Self::Requests => {
                (format!("{:.1}k/s", value / 1e3), cpu.map(|cpu| format!("{:.1} µs", cpu * 1e6)))
            }
            Self::Mebibytes => (format!("{value:.0} MiB/s"), cpu.map(|cpu| format!("{cpu:.2} s"))),
            Self::Seconds => (format!("{value:.2} s"), cpu.map(|cpu| format!("{cpu:.2} s"))),
        };
        cpu.map_or(text.clone(), |cpu| format!("{text}, CPU {cpu}"))
    }
}
