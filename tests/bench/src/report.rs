//! The table.

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Requests a second.
    pub rate: f64,
    /// CPU seconds of the backend per request.
    pub cpu: f64,
}

/// The table's head.
pub fn header() {
    println!("| row | qemu-storage-daemon | CPU µs | ours | CPU µs | ratio | wanted |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
}

/// One line: medians of either side.
pub fn row(name: &str, block: u32, peers: &[Figures], owns: &[Figures], wanted: f64) {
    let median_of = |figures: &[Figures], what: fn(&Figures) -> f64| {
        median(&figures.iter().map(what).collect::<Vec<_>>())
    };
    let (peer, own) = (median_of(peers, |f| f.rate), median_of(owns, |f| f.rate));
    let (peer_cpu, own_cpu) = (median_of(peers, |f| f.cpu), median_of(owns, |f| f.cpu));
    println!(
        "| {name} | {} | {:.1} | {} | {:.1} | {:.2} | {wanted:.1} |",
        rate(peer, block),
        peer_cpu * 1e6,
        rate(own, block),
        own_cpu * 1e6,
        own / peer
    );
}

/// Small requests are counted, large ones are weighed.
fn rate(rate: f64, block: u32) -> String {
    if block > 4096 {
        format!("{:.2} GiB/s", rate * f64::from(block) / f64::from(1 << 30))
    } else {
        format!("{:.1}k IOPS", rate / 1e3)
    }
}

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
