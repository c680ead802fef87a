//! What a revocation will do.

use kube::ResourceExt;
use signingkeyring_core::fingerprint::Fingerprint;
use signingkeyring_crds::{Revocation, SigningKeyRing, VersionState};

use crate::{
    error::Error,
    ring::{Change, ended, versions},
    text::{Line, Style},
};

/// The longest reason that the API takes.
const MOST: usize = 512;

/// How a version is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its number.
    Number(u32),
    /// By its key.
    Fingerprint(String),
}

impl Named {
    /// Reads what was typed.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse::<u32>() {
            let is_legal = (1..=1_000_000_000).contains(&number);
            return is_legal.then_some(Self::Number(number)).ok_or_else(help);
        }
        let fingerprint: Fingerprint = text.parse().map_err(|_| help())?;
        Ok(Self::Fingerprint(fingerprint.to_string()))
    }
}

fn help() -> String {
    "write the number of a version, or its fingerprint as kubectl signing status RING -o wide \
     shows it"
        .to_owned()
}

/// Checks a reason.
///
/// # Errors
/// If the API would not take it.
pub fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("say why".to_owned()),
        1..=MOST => Ok(text.to_owned()),
        _ => Err(format!("write at most {MOST} characters")),
    }
}

/// What a revocation will do.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    named: Named,
    /// The version, if the ring knows it.
    version: Option<u32>,
    state: Option<VersionState>,
    /// The other versions that end by it.
    others: Vec<u32>,
    is_listed: bool,
}

/// Makes it.
///
/// # Errors
/// If the ring has no such version.
pub fn of(ring: &SigningKeyRing, named: &Named) -> Result<Plan, Error> {
    let found = versions(ring).iter().find(|version| match named {
        Named::Number(number) => version.version == *number,
        Named::Fingerprint(fingerprint) => version.fingerprint == *fingerprint,
    });
    let newest = versions(ring).iter().map(|version| version.version).max();
    if let (Named::Number(number), None) = (named, found)
        && newest.is_none_or(|newest| *number > newest)
    {
        return Err(Error::Failed(format!(
            "ring {} has no version {number}: kubectl signing history {0} lists those it has",
            ring.name_any()
        )));
    }
    let version = found.map(|version| version.version);
    let is_listed = ring.spec.revoked.iter().any(|entry| {
        entry.version.is_some() && entry.version == version
            || entry.fingerprint.is_some()
                && entry.fingerprint.as_ref() == found.map(|version| &version.fingerprint)
    });
    let ended = version.map(|version| ended(ring, Change::Revoke(version))).unwrap_or_default();
    Ok(Plan {
        named: named.clone(),
        version,
        state: found.map(|version| version.state),
        others: ended.into_iter().filter(|other| Some(*other) != version).collect(),
        is_listed,
    })
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.is_listed
    }

    /// The entry that is to be added.
    pub fn entry(&self, reason: &str) -> Revocation {
        let (version, fingerprint) = match &self.named {
            Named::Number(number) => (Some(*number), None),
            Named::Fingerprint(fingerprint) => (None, Some(fingerprint.clone())),
        };
        Revocation { version, fingerprint, reason: reason.to_owned() }
    }

    /// What is asked before.
    pub fn question(&self) -> String {
        format!("Revoke {}?", self.name())
    }

    fn name(&self) -> String {
        match (self.version, &self.named) {
            (Some(version), _) => format!("version {version}"),
            (None, Named::Number(number)) => format!("version {number}"),
            (None, Named::Fingerprint(fingerprint)) => format!("the key {fingerprint}"),
        }
    }

    /// It, in sentences.
    pub fn lines(&self, ring: &str) -> Vec<Line> {
        let name = self.name();
        if self.is_listed {
            return vec![format!("Ring {ring}: {name} is in spec.revoked already.").into()];
        }
        let what = match self.state {
            None => "the ring does not know it any more, or not yet: what it signed stays refused",
            Some(VersionState::Revoked) => "it is revoked already, and stays so",
            Some(VersionState::Retired) => "its images are refused already, and stay so for ever",
            Some(VersionState::Pending) => {
                "it is on its way and has signed nothing: another is minted"
            }
            Some(VersionState::Standby) => "it stands by and has signed nothing: another is minted",
            Some(VersionState::Accepted) => {
                "its images are refused at once and may not start again"
            }
            Some(VersionState::Current) => {
                "it signs now: its images are refused at once, and the next version is minted by \
                 itself. Until that signs, pipelines hold a key that nobody accepts"
            }
        };
        let mut lines = vec![Line::new(Style::Warn, format!("Ring {ring}: {name}: {what}."))];
        let others: Vec<String> = self.others.iter().map(u32::to_string).collect();
        if !others.is_empty() {
            lines.push(Line::new(
                Style::Warn,
                format!(
                    "With the next version these fall out of the window: {}.",
                    others.join(", ")
                ),
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ring::tests::ring, text::plain};

    use VersionState::{Accepted, Current};

    #[test]
    fn what_a_revocation_means_is_said_before() {
        let ring = ring(&[Accepted, Accepted, Current]);
        let said = |number| plain(&of(&ring, &Named::Number(number)).unwrap().lines("checkout"));
        insta::assert_snapshot!(said(2), @"Ring checkout: version 2: its images are refused at once and may not start again.");
        insta::assert_snapshot!(said(3), @r"
        Ring checkout: version 3: it signs now: its images are refused at once, and the next version is minted by itself. Until that signs, pipelines hold a key that nobody accepts.
        With the next version these fall out of the window: 1.
        ");
        let missing = of(&ring, &Named::Number(4)).unwrap_err();
        assert!(missing.to_string().contains("has no version 4"), "{missing}");
    }

    #[test]
    fn what_is_listed_is_not_added_again() {
        let mut ring = ring(&[Accepted, Current]);
        let by_key = of(&ring, &Named::Fingerprint("SHA256:1".into())).unwrap();
        assert_eq!((by_key.version, by_key.is_done()), (Some(1), false));
        ring.spec.revoked.push(by_key.entry("leaked"));
        assert!(of(&ring, &Named::Number(1)).unwrap().is_done());
        assert!(!of(&ring, &Named::Number(2)).unwrap().is_done());
    }

    #[test]
    fn a_version_is_named_by_number_or_key() {
        assert_eq!(Named::parse("3"), Ok(Named::Number(3)));
        let key = format!("SHA256:{}=", "a".repeat(43));
        assert_eq!(Named::parse(&key), Ok(Named::Fingerprint(key.clone())));
        for text in ["0", "-1", "v3", "", "4000000000"] {
            assert!(Named::parse(text).is_err(), "{text}");
        }
        assert!(reason("").is_err() && reason(&"x".repeat(513)).is_err());
    }
}
