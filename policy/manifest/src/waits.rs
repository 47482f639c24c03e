//! Who may wait for whom. A cycle would let two processes hold each other up for ever.

use std::collections::BTreeMap;

/// Edges of the wait graph: class → classes it may block on.
pub type Waits = BTreeMap<String, Vec<String>>;

/// A cycle of the graph, if there is one: each class waits for the next, the last for the first.
pub fn cycle(waits: &Waits) -> Option<Vec<&str>> {
    waits.keys().find_map(|start| {
        let mut path = vec![start.as_str()];
        search(waits, &mut path).then_some(path)
    })
}

/// Whether the path leads back to its own beginning.
fn search<'a>(waits: &'a Waits, path: &mut Vec<&'a str>) -> bool {
    let last = path[path.len() - 1];
    for next in waits.get(last).into_iter().flatten() {
        if next == path[0] {
            return true;
        }
        if path.contains(&next.as_str()) {
            continue;
        }
        path.push(next);
        if search(waits, path) {
            return true;
        }
        path.pop();
    }
    false
}
