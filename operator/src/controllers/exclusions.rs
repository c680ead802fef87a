//! Says which exclusion lists are too large, how much there is room for, and
//! which are gone with their kind and stay in force.

use kube::ResourceExt;
use signingkeyring_core::{
    event::{Action, Occurrence},
    policy::exclusions::{Selection, TooLarge, remembered::FROM_POLICIES},
    policy_ref::PolicyRef,
};
use tracing::warn;

use crate::{context::Context, telemetry};

/// Says of each list that is too large, once for each content, what does not
/// count and what to do.
pub(super) async fn report(context: &Context, policy: PolicyRef, selection: &Selection) {
    remembered(context, policy, &selection.remembered).await;
    let of_policy = context.settings.limit_for_lists();
    let limit = of_policy.room_for_exclusions().new;
    context.metrics.exclusions(selection.bytes, limit, selection.too_large.len());
    let now = context.clock.now();
    let ends = selection.counting.iter().filter(|(_, exclusion)| exclusion.counts(now));
    let ends =
        ends.filter_map(|(list, exclusion)| Some((list.as_str(), exclusion.ends()?.as_second())));
    context.metrics.exclusions_end(ends);
    for TooLarge { list: name, left_out } in &selection.too_large {
        // It was deleted since it was seen.
        let (Some(list), Some(first)) = (context.cache.list(name), left_out.first()) else {
            continue;
        };
        let (uid, version) = (list.uid(), list.resource_version());
        if !context.announced.first_time(&format!("{name} {uid:?} {version:?} too large")) {
            continue;
        }
        let left_out = left_out.len();
        warn!(
            list = name,
            left_out, limit, "exclusion list is too large: what is new in it does not count"
        );
        let rings = of_policy.rings;
        let note = format!(
            "{left_out} of its images do not count and need a signature, {} and what follows. In \
             each ring's rules all exclusion lists together may have {limit} bytes, with \
             --rings-per-policy={rings}, of which {} are in use. Name trees (quay.io/org/*) in the \
             place of what is below them, take entries out, or lower --rings-per-policy",
            first.image, selection.bytes,
        );
        let on = telemetry::list_reference(name, uid.as_deref());
        let reason = Occurrence::ExclusionListTooLarge;
        context.events.publish(&on, true, reason, Action::Limit, &note).await;
    }
}

/// The most names in a sentence.
const NAMES: usize = 10;

/// Says of each policy, once each time, which lists are remembered.
async fn remembered(context: &Context, policy: PolicyRef, lists: &[String]) {
    context.metrics.exclusions_remembered(lists.len());
    let times = context.cache.lost_lists.times();
    if lists.is_empty()
        || !context.announced.first_time(&format!("{policy} {times} {lists:?} remembered"))
    {
        return;
    }
    warn!(%policy, ?lists, "exclusion lists are gone with their kind: what they exclude stays so");
    let names = match lists {
        [only] if only == FROM_POLICIES => {
            "exclusion lists, as far as the policies show them,".into()
        }
        lists => {
            let more = lists.len().saturating_sub(NAMES);
            let named: Vec<&str> = lists.iter().take(NAMES).map(String::as_str).collect();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("the exclusion lists {}{more}", named.join(", "))
        }
    };
    let note = format!(
        "{names} are gone with their kind, and nobody deleted them: what they exclude stays \
         excluded. Apply the CRD and the lists again; to let one go, apply it and delete it"
    );
    let uid = context.cache.policy(policy).and_then(|policy| policy.uid());
    let on = telemetry::policy_reference(policy, uid.as_deref());
    let reason = Occurrence::ExclusionListsRemembered;
    context.events.publish(&on, true, reason, Action::Keep, &note).await;
}
