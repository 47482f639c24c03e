//! How long the frontend waited, printed for people.

use std::time::Duration;

/// The longest wait of a driver after each kill.
#[derive(Debug, Default)]
pub struct Pauses(Vec<Duration>);

impl Pauses {
    /// One more.
    pub fn add(&mut self, pause: Duration) {
        self.0.push(pause);
    }

    /// Prints the usual figures.
    pub fn print(&mut self, name: &str) {
        self.0.sort_unstable();
        let at = |part: f64| {
            let place = (self.0.len() as f64 * part) as usize;
            self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        println!(
            "{name}: {} times, longest wait p50 {:.1?}, p99 {:.1?}, max {:.1?}",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}
