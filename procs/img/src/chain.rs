//! The files below an image: those that were given, or those that headers name.
//!
//! Law: names in headers are followed only if the user asks for it: whoever made an image may have named any
//! file of the user's in it.

use std::path::Path;

use anyhow::Result;

use crate::cli::{Chain, Format, Share};
use crate::file::Access;
use crate::info;
use crate::tool::Front;

/// The files that belong to an image, all of them named.
pub fn of(
    chain: &Chain,
    format: Format,
    path: &Path,
    share: Share,
    front: &mut Front,
) -> Result<Chain> {
    let mut named = chain.clone();
    if chain.backing_chain {
        let access = Access::reading(share.force_share);
        let facts = info::all(true, path, format, access, front)?;
        named.backing = facts.into_iter().skip(1).map(|facts| (facts.format, facts.path)).collect();
    }
    Ok(named)
}
