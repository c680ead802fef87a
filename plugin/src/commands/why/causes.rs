//! What may be behind it that Kyverno says otherwise than this plugin.

use super::view::{Asked, Verdict};
use crate::{judge::Fate, left_out::LeftOut};

/// Candidates, what explains most first.
pub fn of(asked: &Asked, fate: Option<&Fate>, left_out: &LeftOut, namespace: &str) -> Vec<String> {
    if asked.is_unanswered {
        let away = "Kyverno is away or too slow, and nothing starts meanwhile";
        return vec![format!("{away}: kubectl signing doctor")];
    }
    let mut causes = Vec::new();
    let mut add = |text: &str| causes.push(text.to_owned());
    if let Some(other) = &asked.changed_to {
        add(&format!(
            "something changes the image to {other} before or after it is verified, and Kyverno \
             may have looked at that one: kubectl signing why {other} -n {namespace}"
        ));
    }
    match (asked.kyverno, fate) {
        (Verdict::Admitted, _) => {
            if !left_out.certain.is_empty() || !left_out.open.is_empty() {
                add("what is said above of others' policies, exceptions and webhooks");
            }
            if !left_out.unseen.is_empty() {
                add("what you could not see of Kyverno: ask again as who may read it");
            }
            add("Kyverno verifies nothing of who its ConfigMap excludes (excludeGroups, \
                 excludeUsernames, excludeRoles), and you may be one of them: kubectl auth whoami");
            add("its policy accepts a key that the ring's status does not: the condition \
                 PolicyEnforced, and kubectl signing verify");
        }
        (Verdict::Refused, Some(Fate::Excluded(_))) => {
            add(
                "the exclusion is not in the ring's policy yet, or there is no room for it: kubectl \
                 describe iel; or Kyverno cannot look the image's tag up",
            );
        }
        (Verdict::Refused, _) => {
            add("something changes the image before it is verified, such as a registry's mirror \
                 that is written into pods: kubectl get mutatingwebhookconfigurations");
            add("Kyverno asks the registry with credentials of its own \
                 (spec.policy.registryCredentials) and may see less there than you");
            add("Kyverno has not loaded the keys that the ring's status has: ask again in some \
                 seconds; the condition PolicyEnforced says it if that stays so");
        }
        (Verdict::Unknown, _) => {}
    }
    add("the image's tag or its signatures were changed between the two looks: ask again");
    causes
}
