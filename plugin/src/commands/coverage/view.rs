//! Which namespaces are covered.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use signingkeyring_core::names;

/// All namespaces.
#[derive(Debug, Serialize)]
pub struct View {
    /// What is open first, then by name.
    pub namespaces: Vec<Namespace>,
}

/// A namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    pub name: String,
    pub pods: usize,
    /// What its label says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    pub state: State,
}

/// Whether a namespace is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// Its label names no ring.
    UnknownRing,
    /// It runs pods and has no ring.
    NoRing,
    /// A ring's.
    Covered,
    /// The cluster's own, which nobody enrols.
    System,
    /// It runs nothing and has no ring.
    Empty,
}

impl View {
    /// Whether pods run, or may, where no ring is.
    pub fn is_open(&self) -> bool {
        self.namespaces.iter().any(|namespace| namespace.state <= State::NoRing)
    }
}

/// The cluster's own namespaces, which the guard lets nobody enrol.
const CLUSTERS: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Makes it. `owns` are the namespaces of operator and Kyverno.
pub fn of(
    namespaces: &[(String, Option<String>)],
    pods: &BTreeMap<String, usize>,
    rings: &BTreeSet<String>,
    owns: [&str; 2],
) -> View {
    let state = |name: &str, ring: Option<&str>, pods: usize| match ring {
        Some(names::PROBE) => State::System,
        Some(ring) if rings.contains(ring) => State::Covered,
        Some(_) => State::UnknownRing,
        None if CLUSTERS.contains(&name) || owns.contains(&name) => State::System,
        None if pods == 0 => State::Empty,
        None => State::NoRing,
    };
    let mut namespaces: Vec<Namespace> = namespaces
        .iter()
        .map(|(name, ring)| {
            let pods = pods.get(name).copied().unwrap_or(0);
            let state = state(name, ring.as_deref(), pods);
            Namespace { name: name.clone(), pods, ring: ring.clone(), state }
        })
        .collect();
    namespaces.sort_by(|a, b| (a.state, &a.name).cmp(&(b.state, &b.name)));
    View { namespaces }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;

    #[test]
    fn what_no_ring_verifies_comes_first() {
        let namespaces = [
            ("kube-system", None),
            ("default", None),
            ("idle", None),
            ("shop-dev", Some("shop")),
            ("typo", Some("shpo")),
            ("signing-probe", Some("signing-gate")),
            ("signing-system", None),
        ]
        .map(|(name, ring)| (name.to_owned(), ring.map(str::to_owned)));
        let pods = [("kube-system", 9), ("default", 2), ("shop-dev", 1)];
        let pods = pods.map(|(name, count)| (name.to_owned(), count)).into();
        let view =
            of(&namespaces, &pods, &["shop".to_owned()].into(), ["signing-system", "kyverno"]);
        assert!(view.is_open());
        let shown =
            |wide| plain(&super::super::print::lines(&view, "signing.odj.cloud/ring", wide));
        insta::assert_snapshot!(shown(false), @r"
        NAMESPACE   PODS   RING   STATE
        typo        0      shpo   its label names no ring
        default     2      -      pods run that no ring verifies
        shop-dev    1      shop   covered

        1 of 3 namespaces with pods or a label is covered. To enrol one: kubectl signing enroll RING NAMESPACE
        ");
        insta::assert_snapshot!(shown(true));
    }
}
