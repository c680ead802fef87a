//! What of a ring's conditions is not as it should be.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use signingkeyring_core::condition::{Kind, Status};

/// Something that is not as it should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    pub weight: Weight,
    pub condition: String,
    pub reason: String,
    pub message: String,
}

/// What a note means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Weight {
    /// Only a person helps, or pods meet what they should not.
    Wrong,
    /// It passes by itself.
    UnderWay,
    /// Nobody can tell.
    NotSeen,
}

/// The conditions that are not as they should be. `Ready` only repeats them, and so
/// does `Stalled`; what they alone say stays.
pub fn notes(conditions: &[Condition]) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    let is_sum =
        |condition: &&Condition| matches!(condition.type_.parse(), Ok(Kind::Ready | Kind::Stalled));
    let (sums, parts): (Vec<_>, Vec<_>) = conditions.iter().partition(is_sum);
    for condition in parts.into_iter().chain(sums) {
        let Some(weight) = weight(condition) else { continue };
        if notes.iter().all(|note| note.message != condition.message) {
            notes.push(Note {
                weight,
                condition: condition.type_.clone(),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            });
        }
    }
    notes.sort_by_key(|note| note.weight);
    notes
}

/// A condition of a kind that is not known here is as it should be when it is True.
fn weight(condition: &Condition) -> Option<Weight> {
    let status: Option<Status> = condition.status.parse().ok();
    match (condition.type_.parse(), status) {
        (Ok(Kind::Stalled), Some(Status::True)) => Some(Weight::Wrong),
        (Ok(Kind::Reconciling), Some(Status::True)) => Some(Weight::UnderWay),
        (Ok(Kind::Stalled | Kind::Reconciling), _) | (_, Some(Status::True)) => None,
        (_, Some(Status::False)) => Some(Weight::Wrong),
        (_, Some(Status::Unknown) | None) => Some(Weight::NotSeen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
        serde_json::from_value(serde_json::json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-24T10:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn what_is_wrong_is_said_once_and_first() {
        let conditions = [
            says("Ready", "False", "GateOpen", "OPEN: no webhook"),
            says("Reconciling", "True", "Rotating", "version 2 is pending"),
            says("Stalled", "False", "x", "not stalled"),
            says("PolicyEnforced", "False", "GateOpen", "OPEN: no webhook"),
            says("EnforcementComplete", "Unknown", "NotSeen", "cannot be seen"),
            says("PipelinesPublished", "True", "Published", "all"),
            says("FromTheFuture", "False", "New", "something new"),
        ];
        let notes: Vec<_> =
            notes(&conditions).into_iter().map(|note| (note.weight, note.condition)).collect();
        let expected = [
            (Weight::Wrong, "PolicyEnforced"),
            (Weight::Wrong, "FromTheFuture"),
            (Weight::UnderWay, "Reconciling"),
            (Weight::NotSeen, "EnforcementComplete"),
        ];
        assert_eq!(notes, expected.map(|(weight, name)| (weight, name.to_owned())));
    }
}
