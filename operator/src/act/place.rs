//! Room in a policy, for the time of the commit that puts a ring there.

use signingkeyring_core::{
    ledger::{Ledger, RuleSettings},
    snapshot::PolicyFound,
};

use super::Halt;
use crate::{cache::Claim, context::Context, error::Error, observe::Observed};

/// Claims room for a ring in the policy that a commit puts it into. A rule that
/// is there already needs none.
///
/// # Errors
/// If other rings have taken the room since it was observed.
pub(super) fn claim<'a>(
    context: &'a Context,
    observed: &Observed,
    base: Option<&Ledger>,
    rule: &RuleSettings,
) -> Result<Option<Claim<'a>>, Error> {
    let policy = rule.policy;
    let named = base.is_some_and(|base| base.rule.settings.policies().any(|name| name == policy));
    let found = observed.snapshot.policies.get(&policy);
    let holds =
        matches!(found.map(|asked| &asked.found), Some(PolicyFound::Ours { mark: Some(_), .. }));
    if named || holds {
        return Ok(None);
    }
    let bytes = context.cache.written.size(policy);
    let limit = context.settings.policy_limit();
    match context.cache.ledgers.claim(&observed.snapshot.name, policy, bytes, limit) {
        Some(claim) => Ok(Some(claim)),
        None => Err(Error::Conflict(format!("the room in policy {policy}"))),
    }
}

/// Ends a claim with the commit that it was made for, unless nobody knows what
/// became of that.
pub(super) fn settle(claim: Option<Claim<'_>>, committed: &Result<(), Halt>) {
    if let (Some(claim), Err(Halt::Failed(error))) = (claim, committed)
        && error.is_uncertain()
    {
        claim.leave_taken();
    }
}
