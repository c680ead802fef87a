//! What Kyverno makes of what was found, by the rules of a ring.

use signingkeyring_core::{ledger::State, policy_ref::PolicyKind};

use crate::{
    inspection::{Bundle, Content, Inspection, Signature},
    key::Key,
    unreadable::Unreadable,
};

/// What becomes of an image in a ring's namespaces, and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub outcome: Outcome,
    /// Who signed it, of the keys that are known; newest version of the asked ring first.
    pub signers: Vec<Signer>,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It starts.
    Admitted,
    /// It does not.
    Refused(Refusal),
    /// That depends on what could not be read. While Kyverno cannot read it either, the
    /// image does not start.
    Unknown(Unreadable),
}

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no signature.
    Unsigned,
    /// It has signatures by keys alone that are not known, or that do not fit what was
    /// signed.
    UnknownKey,
    /// It has signatures of versions that are not accepted (any more), or of other
    /// rings: see the verdict's signers.
    NotAccepted,
    /// An accepted key signed another image, and the signature was copied here.
    OtherImage,
    /// An accepted key signed in bundles, which a ClusterPolicy does not read.
    OtherFormat,
    /// An accepted key attested and did not sign.
    OnlyAttested,
    /// An accepted key signed in the `.sig` tag, and beside it there is a bundle with
    /// which an ImageValidatingPolicy looks at bundles alone.
    BundleBeside,
    /// It is an index without linux/amd64, of which Kyverno reads nothing.
    NoPlatform,
}

/// In which format an image is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// In the tag `sha256-….sig`, as cosign 2 does.
    Tag,
    /// In a bundle that refers to the image, as cosign 3 does.
    Bundle,
}

/// A known key that signed an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The ring.
    pub ring: String,
    /// The version of its key.
    pub version: u32,
    /// What that is good for.
    pub state: State,
    /// Where the signature is.
    pub format: Format,
}

/// What the keys come to.
struct Found<'a> {
    /// Keys with a signature of this image.
    signers: Vec<(&'a Key, Format)>,
    /// Whether an accepted key attested.
    attested: bool,
    /// Whether an accepted key signed something else that was put here.
    other_image: bool,
}

impl Inspection {
    /// What becomes of the image in the namespaces of a ring whose rule is in a policy of
    /// this kind. `keys` are all that are known, of other rings, too.
    #[must_use]
    pub fn judge(&self, kind: PolicyKind, ring: &str, keys: &[Key]) -> Verdict {
        let found = self.look_for(ring, keys);
        let outcome = self.outcome(kind, ring, &found);
        let mut signers: Vec<_> = found.signers;
        signers.sort_by_key(|(key, format)| {
            (key.ring != ring, key.ring.clone(), std::cmp::Reverse(key.version), *format)
        });
        let signers = signers.into_iter().map(|(key, format)| Signer {
            ring: key.ring.clone(),
            version: key.version,
            state: key.state,
            format,
        });
        Verdict { outcome, signers: signers.collect() }
    }

    fn outcome(&self, kind: PolicyKind, ring: &str, found: &Found<'_>) -> Outcome {
        if let Err(why) = &self.digest {
            return Outcome::Unknown(why.clone());
        }
        let accepted = |format| {
            found.signers.iter().any(|(key, of)| *of == format && key.is_accepted_by(ring))
        };
        let by_tag = || match &self.signatures.unread {
            _ if accepted(Format::Tag) => Outcome::Admitted,
            Some(why) => Outcome::Unknown(why.clone()),
            None => Outcome::Refused(self.refusal(kind, found, &accepted)),
        };
        match kind {
            PolicyKind::ClusterPolicy => by_tag(),
            PolicyKind::ImageValidatingPolicy => match (&self.has_platform, &self.bundles.unread) {
                (Err(why), _) => Outcome::Unknown(why.clone()),
                (Ok(false), _) => Outcome::Refused(Refusal::NoPlatform),
                _ if accepted(Format::Bundle) => Outcome::Admitted,
                (_, Some(why)) => Outcome::Unknown(why.clone()),
                // Where there is a bundle, bundles alone are looked at.
                _ if !self.bundles.found.is_empty() => {
                    Outcome::Refused(self.refusal(kind, found, &accepted))
                }
                _ => by_tag(),
            },
        }
    }

    fn refusal(
        &self,
        kind: PolicyKind,
        found: &Found<'_>,
        accepted: &impl Fn(Format) -> bool,
    ) -> Refusal {
        let nothing_counts = match kind {
            PolicyKind::ClusterPolicy => self.signatures.found.is_empty(),
            PolicyKind::ImageValidatingPolicy => {
                self.signatures.found.is_empty()
                    && self.bundles.found.iter().all(|bundle| bundle.content.is_attestation())
            }
        };
        if accepted(Format::Tag) {
            Refusal::BundleBeside
        } else if accepted(Format::Bundle) {
            Refusal::OtherFormat
        } else if found.attested && nothing_counts {
            Refusal::OnlyAttested
        } else if !found.signers.is_empty() {
            Refusal::NotAccepted
        } else if found.other_image {
            Refusal::OtherImage
        } else if nothing_counts {
            Refusal::Unsigned
        } else {
            Refusal::UnknownKey
        }
    }

    /// Tries each key on each signature.
    fn look_for<'a>(&self, ring: &str, keys: &'a [Key]) -> Found<'a> {
        let mut found = Found { signers: Vec::new(), attested: false, other_image: false };
        for key in keys {
            let is_accepted = key.is_accepted_by(ring);
            let signed = |s: &&Signature| key.signed(&s.payload, &s.signature);
            let by_tag = self.signatures.found.iter().filter(signed);
            let stated = |b: &&Bundle| b.content.is_signed_by(key);
            let by_bundle = self.bundles.found.iter().filter(stated);
            let seen =
                by_tag.map(|s| (s.names_image, Some(Format::Tag))).chain(by_bundle.map(|b| {
                    (b.content.names_image(), b.content.is_signature().then_some(Format::Bundle))
                }));
            for (names_image, format) in seen {
                match format {
                    _ if !names_image => found.other_image |= is_accepted,
                    None => found.attested |= is_accepted,
                    // Of many by one key one says it.
                    Some(format) if !found.has(key, format) => found.signers.push((key, format)),
                    Some(_) => {}
                }
            }
        }
        found
    }
}

impl Found<'_> {
    fn has(&self, key: &Key, format: Format) -> bool {
        self.signers.iter().any(|(of, at)| std::ptr::eq(*of, key) && *at == format)
    }
}

impl Content {
    fn is_signed_by(&self, key: &Key) -> bool {
        matches!(self, Self::Statement { signed, signature, .. } if key.signed(signed, signature))
    }

    fn names_image(&self) -> bool {
        matches!(self, Self::Statement { names_image: true, .. })
    }

    fn is_attestation(&self) -> bool {
        matches!(self, Self::Statement { .. }) && !self.is_signature()
    }
}

#[cfg(test)]
mod tests;
