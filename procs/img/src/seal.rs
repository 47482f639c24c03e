//! The end of opening files: what an image says cannot lead anywhere afterwards.

use anyhow::{Context, Result};
use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus};

/// Denies this process every path. A kernel without Landlock leaves the code's own law: nothing opens
/// anything after this.
pub fn seal() -> Result<()> {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1));
    let status = ruleset
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.no_new_privs(true).restrict_self())
        .context("the process cannot be confined")?;
    if status.ruleset == RulesetStatus::NotEnforced {
        eprintln!("bulkhead-img: this kernel has no Landlock; files are not confined");
    }
    Ok(())
}
