//! Room in a policy, for the time of the commit that puts a ring there.

use signingkeyring_core::{
    ledger::{Ledger, RuleSettings},
    snapshot::PolicyFound,
};

use super::Halt;
use crate::{cache::Claim, context::Context, error::Error, kyverno::is_ours, observe::Observed};

/// Claims room for a ring in the policy that a commit puts it into. A rule that
/// is there already needs none, unless it is to ask registries with other credentials where
/// all rings of the policy ask with the same.
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
    let before = base.map(|base| &base.rule.settings);
    let named = before.filter(|before| before.policies().any(|name| name == policy));
    let found = observed.snapshot.policies.get(&policy);
    let holds =
        matches!(found.map(|asked| &asked.found), Some(PolicyFound::Ours { mark: Some(_), .. }));
    let asks_anew = policy.kind().shares_credentials()
        && named.is_some_and(|before| before.credentials_in(policy) != &rule.credentials);
    let is_there = named.is_some() || holds;
    if is_there && !asks_anew {
        return Ok(None);
    }
    let bytes = context.cache.written.size(policy);
    let limit = (!is_there).then(|| context.settings.policy_limit(policy.kind()));
    let stands = context.cache.policy(policy).filter(|found| is_ours(found));
    match context.cache.ledgers.claim(
        &observed.snapshot.name,
        (policy, &rule.credentials),
        stands.as_deref(),
        bytes,
        limit,
    ) {
        Some(claim) => Ok(Some(claim)),
        None => Err(Error::Overtaken(format!("the room in policy {policy}"))),
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
