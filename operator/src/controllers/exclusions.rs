//! Says which exclusion lists are too large, and how much there is room for.

use kube::ResourceExt;
use signingkeyring_core::{
    event::{Action, Occurrence},
    policy::exclusions::{Selection, TooLarge},
};
use tracing::warn;

use crate::{context::Context, telemetry};

/// Says of each list that is too large, once for each content, what does not
/// count and what to do.
pub(super) async fn report(context: &Context, selection: &Selection) {
    let limit = context.settings.policy_limit().bytes_for_exclusions();
    context.metrics.exclusions(selection.bytes, limit, selection.too_large.len());
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
        let rings = context.settings.rings_per_policy;
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
