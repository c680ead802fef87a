//! What is said of an image, and by whom.

use std::collections::BTreeMap;

use serde::Serialize;
use signingkeyring_core::condition::{Kind, Status};
use signingkeyring_crds::{PolicyAction, SigningKeyRing};

use crate::{
    dry_run::{Answer, reason},
    judge::{Fate, refusal, signed_by},
    left_out::{LeftOut, Share},
    ring::{condition, policy_kind, versions},
};

/// Why images would start in a namespace, or would not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub namespace: String,
    /// The ring that the namespace's label names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// Why there is none of that name, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_such_ring: Option<String>,
    /// What the ring does, and by which kind of policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    pub audits: bool,
    /// When versions of the ring were retired or revoked, as far as that was recorded.
    #[serde(skip)]
    pub ended: BTreeMap<u32, String>,
    /// What Kyverno leaves out of the check, or why nobody is checked.
    pub remarks: Vec<String>,
    /// What of Kyverno could not be looked at, so that it may leave out more.
    pub unseen: Vec<String>,
    pub images: Vec<Asked>,
}

/// An image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub image: String,
    /// Whether it starts, as far as it is known here.
    pub here: Verdict,
    pub because: String,
    pub signed_by: String,
    /// What Kyverno says.
    pub kyverno: Verdict,
    pub kyverno_says: String,
    /// It does not answer, so nobody looked at the image.
    #[serde(skip)]
    pub is_unanswered: bool,
    /// What the pod would run instead, if something changes its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_to: Option<String>,
    /// If Kyverno says otherwise, what may be behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub perhaps_because: Vec<String>,
}

/// Whether an image starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It does.
    Admitted,
    /// It does not.
    Refused,
    /// Nobody can tell.
    Unknown,
}

impl View {
    /// Of a namespace, with the ring that its label names.
    pub fn new(namespace: &str, ring: Option<String>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ring,
            no_such_ring: None,
            policy: None,
            audits: false,
            ended: BTreeMap::new(),
            remarks: Vec::new(),
            unseen: Vec::new(),
            images: Vec::new(),
        }
    }

    /// Adds what the ring says, and what Kyverno leaves out.
    pub fn look_at(&mut self, ring: &SigningKeyRing, left_out: &LeftOut) {
        let action = ring.spec.policy.action;
        self.audits = action == PolicyAction::Audit;
        self.policy = Some(format!("{action:?}, {}", policy_kind(ring).as_str()));
        let ended = versions(ring).iter().filter_map(|v| Some((v.version, v.ended_at.as_ref()?)));
        self.ended = ended.map(|(version, at)| (version, at.0.to_string())).collect();
        for kind in [Kind::PolicyEnforced, Kind::EnforcementComplete] {
            let said = condition(ring, kind).filter(|c| c.status == Status::False.as_str());
            self.remarks.extend(said.map(|c| format!("{}: {}", c.reason, c.message)));
        }
        // What the operator has said already is not said again.
        let is_new = |text: &&String| !self.remarks.iter().any(|said| said.contains(text.as_str()));
        let all = left_out.certain.iter().chain(&left_out.open);
        let new: Vec<String> = all.filter(is_new).cloned().collect();
        self.remarks.extend(new);
        self.unseen.clone_from(&left_out.unseen);
    }

    /// Whether an image would not start, or the two verdicts differ.
    pub fn is_open(&self) -> bool {
        self.images.iter().any(|image| {
            image.kyverno != Verdict::Admitted
                || image.here != Verdict::Admitted && !self.audits
                || self.differs(image)
        })
    }

    /// What goes with why an image is refused: when the version that speaks for it went out
    /// of force, and an exclusion that does not count.
    pub fn more(&self, ring: &str, fate: &Fate, void: Option<String>) -> String {
        if !fate.is_refused() {
            return String::new();
        }
        let own = fate.signers().iter().find(|signer| signer.ring == ring);
        let since = own.and_then(|signer| self.ended.get(&signer.version));
        let since = since.map(|at| format!(" (out of force since {at})")).unwrap_or_default();
        void.map_or(since.clone(), |void| format!("{since}; {void}"))
    }

    /// Whether Kyverno says otherwise. Of a ring that only audits it admits all.
    pub fn differs(&self, image: &Asked) -> bool {
        let expected = if self.audits { Verdict::Admitted } else { image.here };
        expected != Verdict::Unknown
            && image.kyverno != Verdict::Unknown
            && expected != image.kyverno
    }
}

impl Asked {
    /// Puts the two beside each other. Without a ring nothing is verified.
    pub fn of(image: &str, ring: &str, fate: Option<&Fate>, answer: Answer) -> Self {
        let (here, because) = match fate {
            None => (Verdict::Admitted, "no ring verifies images here".to_owned()),
            Some(Fate::Excluded(by)) => (Verdict::Admitted, format!("excluded by {by}")),
            Some(Fate::Admitted(_)) => {
                (Verdict::Admitted, "an accepted version signed it".to_owned())
            }
            Some(Fate::Refused(why, signers)) => (Verdict::Refused, refusal(ring, *why, signers)),
            Some(Fate::Unknown(why, _)) => (Verdict::Unknown, why.clone()),
        };
        let signed = fate.map_or("-".to_owned(), |fate| signed_by(ring, fate.signers()));
        let mut changed_to = None;
        let is_unanswered = matches!(answer, Answer::Unanswered(_));
        let (kyverno, kyverno_says) = match answer {
            Answer::Admitted(changed) => {
                changed_to = changed;
                (Verdict::Admitted, String::new())
            }
            Answer::Refused(text) => (Verdict::Refused, reason(&text)),
            Answer::Unanswered(text) => {
                (Verdict::Refused, format!("it does not answer, so pods are refused: {text}"))
            }
            Answer::Other(text) => {
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let says = format!("a pod is refused because of something else: {text}");
                (Verdict::Unknown, says)
            }
        };
        Self {
            image: image.to_owned(),
            here,
            because,
            signed_by: signed,
            kyverno,
            kyverno_says,
            is_unanswered,
            changed_to,
            perhaps_because: Vec::new(),
        }
    }

    /// Takes into account what Kyverno leaves out of the check.
    pub fn leave_out(&mut self, left_out: &LeftOut) {
        // Which of them decides is not told apart.
        let why = left_out.certain.join("; ");
        match left_out.share {
            Share::None => {}
            // What is admitted anyway is so wherever nobody looks.
            Share::Some if self.here != Verdict::Refused => {}
            Share::Some => {
                self.here = Verdict::Unknown;
                self.because = format!("{}; but {why}", self.because);
            }
            Share::All => {
                self.here = Verdict::Admitted;
                self.because = format!("nothing is verified here: {why}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_inspect::{Format, Refusal, Signer, State};

    use super::*;

    #[test]
    fn what_differs_is_open_and_an_audit_admits_all() {
        let mut view = View::new("ns", Some("checkout".into()));
        let asked = |fate: Fate, answer| Asked::of("x", "checkout", Some(&fate), answer);
        view.images = vec![asked(Fate::Admitted(Vec::new()), Answer::Admitted(None))];
        assert!(!view.is_open());
        view.images = vec![asked(Fate::Refused(None, Vec::new()), Answer::Admitted(None))];
        assert!(view.is_open() && view.differs(&view.images[0]));
        view.ended = [(1, "2026-11-24T10:00:00Z".to_owned())].into();
        let signer = |ring: &str| Signer {
            ring: ring.to_owned(),
            version: 1,
            state: State::Retired,
            format: Format::Tag,
        };
        let refused = |ring| Fate::Refused(Some(Refusal::NotAccepted), vec![signer(ring)]);
        let more = |ring, void: Option<&str>| {
            view.more("checkout", &refused(ring), void.map(str::to_owned))
        };
        let since = " (out of force since 2026-11-24T10:00:00Z)";
        assert_eq!(more("checkout", None), since);
        assert_eq!(more("checkout", Some("x has expired")), format!("{since}; x has expired"));
        assert_eq!(more("payments", None), "");
        view.audits = true;
        assert!(!view.is_open());
        view.audits = false;
        view.images = vec![asked(Fate::Admitted(Vec::new()), Answer::Other("quota".into()))];
        assert!(view.is_open() && !view.differs(&view.images[0]));
    }

    #[test]
    fn what_kyverno_does_not_see_it_admits() {
        let fate = Fate::Refused(Some(Refusal::Unsigned), Vec::new());
        let mut asked = Asked::of("x", "checkout", Some(&fate), Answer::Admitted(None));
        let mut left_out = LeftOut { certain: vec!["a filter".into()], ..LeftOut::default() };
        asked.leave_out(&left_out);
        assert_eq!(asked.here, Verdict::Refused);
        left_out.share = Share::Some;
        asked.leave_out(&left_out);
        assert_eq!(asked.here, Verdict::Unknown);
        let mut signed = Asked::of(
            "x",
            "checkout",
            Some(&Fate::Admitted(Vec::new())),
            Answer::Admitted(Some("y".into())),
        );
        signed.leave_out(&left_out);
        assert_eq!((signed.here, signed.changed_to.as_deref()), (Verdict::Admitted, Some("y")));
        left_out.share = Share::All;
        asked.leave_out(&left_out);
        assert_eq!(asked.here, Verdict::Admitted);
        assert_eq!(asked.because, "nothing is verified here: a filter");
    }
}
