//! What a rotation will do.

use kube::ResourceExt;
use signingkeyring_core::names;
use signingkeyring_crds::{SigningKeyRing, VersionState};

use crate::{
    error::Error,
    ring::{Change, ended, next_version, rotation_under_way, versions},
    text::{Line, Span, Style},
};

/// What a rotation will do.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The version that signs now.
    current: Option<u32>,
    /// The one that will.
    next: u32,
    /// Whether that one is there and accepted already.
    is_standby: bool,
    /// Those whose images will be refused.
    ended: Vec<u32>,
    /// Another rotation that has to be done first.
    under_way: Option<String>,
}

/// Makes it.
///
/// # Errors
/// If nothing would come of asking.
pub fn of(ring: &SigningKeyRing, token: &str) -> Result<Plan, Error> {
    let name = ring.name_any();
    if ring.metadata.deletion_timestamp.is_some() {
        return Err(Error::Failed(format!("ring {name} is being deleted and does not rotate")));
    }
    if ring.spec.suspend {
        return Err(Error::Failed(format!(
            "ring {name} is suspended, so it does not rotate: take spec.suspend out first"
        )));
    }
    if ring.annotations().get(names::ANNOTATION_ROTATE).is_some_and(|value| value == token) {
        return Err(Error::Usage(format!(
            "ring {name} has been asked with {token} already, and a value asks once: write another \
             --token, or leave it out"
        )));
    }
    let current = versions(ring).iter().find(|v| v.state == VersionState::Current);
    let next = next_version(ring);
    Ok(Plan {
        current: current.map(|version| version.version),
        next,
        is_standby: versions(ring).iter().any(|version| version.version == next),
        ended: ended(ring, Change::Rotate),
        under_way: rotation_under_way(ring).map(str::to_owned),
    })
}

impl Plan {
    /// Whether images may be refused by it.
    pub fn ends_versions(&self) -> bool {
        !self.ended.is_empty()
    }

    /// It, in sentences.
    pub fn lines(&self, ring: &str) -> Vec<Line> {
        let now = match self.current {
            Some(number) => format!("now it is version {number}"),
            None => "now none does".to_owned(),
        };
        let how = if self.is_standby { ", which stands by" } else { "" };
        let mut lines =
            vec![Line::from(format!("Ring {ring}: version {} will sign{how}; {now}.", self.next))];
        if let Some(token) = &self.under_way {
            lines.push(Line::from(format!(
                "A rotation is under way ({token}); this one follows it."
            )));
        }
        let ended: Vec<String> = self.ended.iter().map(u32::to_string).collect();
        lines.push(match &*ended {
            [] => "No version falls out of the window: what starts now will go on to.".into(),
            [one] => Line(vec![Span::new(
                Style::Warn,
                format!("Version {one} falls out of the window: its images may not start again."),
            )]),
            many => Line(vec![Span::new(
                Style::Warn,
                format!(
                    "Versions {} fall out of the window: their images may not start again.",
                    many.join(", ")
                ),
            )]),
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ring::tests::ring, text::plain};

    use VersionState::{Accepted, Current, Standby};

    fn said(ring: &SigningKeyRing) -> String {
        plain(&of(ring, "t").unwrap().lines("checkout"))
    }

    #[test]
    fn what_will_be_is_said_before_it_is() {
        insta::assert_snapshot!(said(&ring(&[Current])), @r"
        Ring checkout: version 2 will sign; now it is version 1.
        No version falls out of the window: what starts now will go on to.
        ");
        assert!(said(&ring(&[])).starts_with("Ring checkout: version 1 will sign; now none does."));
        let mut standby = ring(&[Accepted, Accepted, Current, Standby]);
        standby.spec.rotation.standby = true;
        insta::assert_snapshot!(said(&standby), @r"
        Ring checkout: version 4 will sign, which stands by; now it is version 3.
        Version 1 falls out of the window: its images may not start again.
        ");
    }

    #[test]
    fn what_would_come_to_nothing_is_refused() {
        let mut suspended = ring(&[Current]);
        suspended.spec.suspend = true;
        assert!(of(&suspended, "t").unwrap_err().to_string().contains("spec.suspend"));
        let mut asked = ring(&[Current]);
        asked.annotations_mut().insert(names::ANNOTATION_ROTATE.into(), "t".into());
        assert!(matches!(of(&asked, "t"), Err(Error::Usage(_))));
        assert!(said_of(&asked, "u").contains("A rotation is under way (t)"));
    }

    fn said_of(ring: &SigningKeyRing, token: &str) -> String {
        plain(&of(ring, token).unwrap().lines("checkout"))
    }
}
