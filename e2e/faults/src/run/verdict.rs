//! What a run is told off for once it has come to its end.

use std::{collections::BTreeSet, time::Duration};

use signingkeyring_e2e_observer::{
    bystander,
    checks::{self, Expected},
    history::Seen,
    invariant::Invariant,
    normalized::difference,
    parse,
    soak::{self, Heard},
};
use tokio::time::{Instant, sleep};

use super::attempt::Run;
use crate::{
    log::What,
    scenario::{Neighbour, SOAK_SECONDS},
};

/// For how long nothing may be written once a run has come to its end.
const QUIET: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// `silence`, and the end state once more.
    pub(super) async fn quiet(&self) -> Vec<String> {
        let start = Instant::now();
        sleep(QUIET).await;
        let mut violations = Vec::new();
        for entry in self.log.entries().iter().filter(|entry| entry.at > start) {
            if let What::Write { request, .. } = &entry.what {
                let when = (entry.at - start).as_secs();
                violations
                    .push(format!("{}: {request} after {when} s of quiet", Invariant::Silence));
            }
        }
        let found = self.state();
        if let Some(reference) = self.reference
            && *reference != found
        {
            violations.push(format!(
                "{}: in the end {}",
                Invariant::Settles,
                difference(reference, &found)
            ));
        }
        let seen = self.shared.observer.seen(self.admin.view.name()).unwrap_or_default();
        // Kyverno writes the status of policies when it likes.
        let written =
            seen.history.iter().filter(|event| event.at > start && !event.id.kind.is_policy());
        violations.extend(written.map(|event| {
            let version = event.object.as_ref().map_or(event.version, parse::version);
            format!(
                "{}: {} was written in the quiet ({version})",
                Invariant::Silence,
                event.id.name
            )
        }));
        violations
    }

    /// What the observer objects to, for each ring of the view. Nothing was done
    /// to a bystander since the fault was `armed`.
    pub(super) fn judge(&self, seen: &Seen, armed: Instant) -> Vec<String> {
        let (view, scenario) = (&self.admin.view, self.scenario);
        let (ring, neighbour) = (view.ring(), view.neighbour());
        let foreign = self.admin.foreign();
        // What replaces a revoked version does not wait for the soak.
        let revokes = seen.now.values().any(|object| object["spec"]["revoked"].is_array());
        let soak = Duration::from_secs(if revokes { 0 } else { SOAK_SECONDS });
        let heard = self.heard();
        let mut rings = vec![(ring, scenario.minted)];
        rings.extend(scenario.neighbour.map(|_| (neighbour.as_str(), 1)));
        let mut violations = BTreeSet::new();
        for (ring, minted) in rings {
            let expected = Expected { ring, minted, foreign: &foreign };
            violations.extend(checks::check(&seen.history, &expected));
            violations.extend(soak::check(&seen.history, &heard, ring, soak));
        }
        let bystander = scenario.neighbour.map(|fate| match fate {
            Neighbour::Stays => neighbour.as_str(),
            Neighbour::Leaves => ring,
        });
        if let Some(bystander) = bystander {
            violations.extend(bystander::check(&seen.history, bystander, armed));
        }
        violations.into_iter().collect()
    }

    fn heard(&self) -> Vec<(Instant, String, Heard)> {
        let entries = self.log.entries().into_iter();
        entries
            .filter_map(|entry| {
                let heard = match entry.what {
                    What::Answer(answer) => Heard::Answer(answer),
                    What::Publishing { ring, key } => Heard::Publishing { ring, key },
                    What::Write { .. } | What::Unreachable => return None,
                };
                Some((entry.at, entry.who, heard))
            })
            .collect()
    }
}
