//! What the objects of every kind of policy have in common: what they say of
//! their rings in labels and annotations, and the key that nobody has.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::digest::{Digest, Part};
use crate::{
    high_water::{HighWater, HighWaters},
    marks::{Mark, Marks},
    names,
};

/// The public key of a ring with no accepted version. Its private key is known
/// to nobody: its point is the first on P-256 with the SHA-256 of "no key of
/// this ring is accepted", a space and a counter from 0 on as its x coordinate,
/// and the even y. A rule cannot go without a key, because Kyverno then
/// verifies nothing.
pub const NOBODYS_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/TrGMkRVrsVCx3vof5CBXIZ0YdZ2\nogRbMHVSSAs/idt2j/JtDaGtwboaqsja222d2wHDC3EKoNekBs095X0+rA==\n-----END PUBLIC KEY-----\n";

/// What an image has to be so that everybody reads the same reference in it, after
/// github.com/distribution/reference: an image that only some parsers read is refused.
pub(super) const REFERENCE: &str = "^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?/)?\
    [a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*\
    (:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$";

/// The seconds Kyverno may take for a Pod: registries are slow, and the maximum
/// that Kubernetes allows is 30.
pub(super) const ENFORCE_TIMEOUT_SECONDS: u32 = 30;

/// With `failurePolicy: Ignore` a Pod has to outlive the time-outs of both the
/// mutating and the validating webhook, and the API server gives up on the
/// whole request after some 34 seconds.
pub(super) const AUDIT_TIMEOUT_SECONDS: u32 = 10;

/// A rendered object.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What it says of its rings.
    pub marks: Marks,
    /// Annotations, [`names::ANNOTATION_MARKS`] among them.
    pub annotations: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `spec`.
    pub spec: Value,
}

impl Rendered {
    pub(super) fn metadata(&self) -> Metadata<'_> {
        Metadata { annotations: &self.annotations, labels: &self.labels }
    }
}

/// What a policy says of its rings: marks, and annotations beside those of its kind.
pub(super) fn said<'a>(
    rules: impl Iterator<Item = (&'a String, &'a Mark, &'a HighWater)> + Clone,
    lists: Option<&str>,
    own: &[(&str, &str)],
    spec: Value,
) -> Rendered {
    let marks = rules.clone().map(|(ring, mark, _)| (ring.clone(), mark.clone()));
    let marks = Marks(marks.collect());
    let high_waters = rules.map(|(ring, _, high_water)| (ring.clone(), high_water.clone()));
    let high_waters = HighWaters(high_waters.collect());
    let texts = [marks.to_string(), high_waters.to_string(), lists.unwrap_or_default().to_owned()];
    let common = ANNOTATIONS.map(str::to_owned).into_iter().zip(texts);
    let own = own.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let labels = LABELS.map(|label| (label.to_owned(), names::MANAGER.to_owned())).into();
    Rendered { marks, annotations: common.chain(own).collect(), labels, spec }
}

/// The annotations that the objects of every kind have: what is written is what is
/// compared.
const ANNOTATIONS: [&str; 3] =
    [names::ANNOTATION_MARKS, names::ANNOTATION_HIGH_WATER, names::ANNOTATION_LISTS];

/// The labels of all objects.
const LABELS: [&str; 1] = [names::LABEL_MANAGED_BY];

/// A policy's labels and annotations.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl Metadata<'_> {
    /// Those that this operator writes, with the annotations that a kind has besides.
    pub(super) fn own(self, besides: &[&str]) -> Digest {
        let common = ANNOTATIONS.iter().chain(besides);
        let annotations: Vec<_> = common.map(|name| self.annotations.get(*name)).collect();
        let labels = LABELS.map(|name| self.labels.get(name));
        Part::of(&json!([annotations, labels])).digest
    }

    pub(super) fn whole(self) -> Digest {
        Part::of(&json!([self.annotations, self.labels])).digest
    }

    pub(super) fn read<T: std::str::FromStr + Default>(self, annotation: &str) -> T {
        let text = self.annotations.get(annotation);
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}
