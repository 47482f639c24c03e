//! The profile of a process class, as TOML: what is read keeps the law, whatever the text was.

use bulkhead_manifest::{Manifest, PROFILES, filter, law};

use super::Verdict;

/// Reads a text as the profile of each class that it may be; its filter can be made.
pub fn run(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let class = |name: &&str| text.contains(&format!("class = \"{name}\""));
    let name = PROFILES.iter().map(|(name, _)| *name).find(class).unwrap_or("sink");
    let read = Manifest::parse(name, text);
    if let Ok(manifest) = &read {
        assert_eq!(law::breaches(manifest), Vec::<String>::new());
        let filter = filter::of(manifest);
        // Only the names of those to whom a filter is passed on are looked up later than by the law.
        assert!(filter.is_ok() || !manifest.passes_on.is_empty(), "no filter of a lawful profile");
    }
    Verdict::of(&read)
}

/// The real ones.
pub fn samples() -> Vec<Vec<u8>> {
    PROFILES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}
