//! What a run is told off for once it has come to its end.

use std::time::Duration;

use signingkeyring_e2e_observer::{
    history::Kind, invariant::Invariant, normalized::difference, parse, soak::Heard,
};
use tokio::time::{Instant, sleep};

use super::attempt::Run;
use crate::log::What;

/// For how long nothing may be written once a run has come to its end.
const QUIET: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// `silence`, and the end state once more.
    pub(super) async fn quiet(&self) -> Vec<String> {
        let ring = self.admin.view.name();
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
        let seen = self.shared.observer.seen(ring).unwrap_or_default();
        // Kyverno writes the status of policies when it likes.
        let written =
            seen.history.iter().filter(|event| event.at > start && event.id.kind != Kind::Policy);
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

    pub(super) fn heard(&self) -> Vec<(Instant, String, Heard)> {
        let entries = self.log.entries().into_iter();
        entries
            .filter_map(|entry| {
                let heard = match entry.what {
                    What::Answer { marks } => Heard::Answer(marks),
                    What::Publishing { key } => Heard::Publishing(key),
                    What::Write { .. } | What::Unreachable => return None,
                };
                Some((entry.at, entry.who, heard))
            })
            .collect()
    }
}
