//! The exclusion lists that are gone with their kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{ResourceExt, core::DeserializeGuard};
use signingkeyring_core::policy::exclusions::{List, remembered::Kind};
use signingkeyring_crds::ImageExclusionList;

use crate::lock::Mutex;

type Object = Arc<DeserializeGuard<ImageExclusionList>>;

/// The lists that are gone with their kind, and stay in force.
#[derive(Debug, Default)]
pub struct LostLists(Mutex<State>);

/// The CRD of lists that are remembered where nobody knows which it was.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Default)]
struct State {
    /// The CRD of which the lists were that this process has seen.
    crd: Option<String>,
    /// The CRD of which those are that are in force.
    origin: Option<String>,
    /// Whether the kind is not served, or is being deleted.
    is_missing: bool,
    lists: BTreeMap<String, Object>,
    from_policies: FromPolicies,
    /// How many times lists were lost, so that each time is told of.
    times: u32,
}

/// What a process that has never seen the lists reads from the policies, once:
/// what somebody writes there later is not what the lists were.
#[derive(Debug, Default)]
enum FromPolicies {
    #[default]
    Unneeded,
    /// There are no lists. If the policies have those of another CRD than this, they
    /// were not deleted.
    IfOfAnother(Kind),
    Wanted,
    Read(List),
}

impl LostLists {
    /// Notes that the kind is not served. Returns whether that is new.
    pub fn kind_is_missing(&self) -> bool {
        let mut state = self.0.lock();
        if state.crd.is_none() && matches!(state.from_policies, FromPolicies::Unneeded) {
            state.from_policies = FromPolicies::Wanted;
        }
        let is_new = !std::mem::replace(&mut state.is_missing, true);
        // Those that went before it are told of already.
        state.times += u32::from(is_new && state.lists.is_empty());
        is_new
    }

    /// Notes what a complete list of the kind has not any more.
    pub fn listed(&self, kind: &Kind, vanished: Vec<Object>, has_any: bool) {
        let mut state = self.0.lock();
        if kind.took_its_lists(state.crd.as_deref()) {
            let is_first = state.crd.is_none();
            state.keep(vanished);
            if is_first {
                // It is being deleted: some may be gone already.
                state.from_policies = FromPolicies::Wanted;
            }
        } else if state.crd.is_none() && matches!(state.from_policies, FromPolicies::Unneeded) {
            state.from_policies = FromPolicies::IfOfAnother(kind.clone());
        }
        if has_any && !matches!(kind, Kind::Served { leaving: true, .. }) {
            state.from_policies = FromPolicies::Unneeded;
        }
        state.is_missing = false;
        if let Kind::Served { uid, .. } = kind {
            state.crd = Some(uid.clone());
        }
        state.settle();
    }

    /// Notes a list that was deleted. Returns whether it is the first that went
    /// with its kind: the others follow it, so from now on they count as gone.
    pub fn deleted(&self, kind: &Kind, list: Object) -> bool {
        let mut state = self.0.lock();
        if !kind.took_its_lists(state.crd.as_deref()) {
            return false;
        }
        state.keep(vec![list]);
        !std::mem::replace(&mut state.is_missing, true)
    }

    /// Notes that a list is there.
    pub fn is_there(&self, name: &str) {
        let mut state = self.0.lock();
        state.lists.remove(name);
        state.from_policies = FromPolicies::Unneeded;
        state.settle();
    }

    /// The CRD of which the lists are that are in force. Policies have it, for the
    /// next process.
    #[must_use]
    pub fn crd(&self) -> Option<String> {
        self.0.lock().origin.clone()
    }

    /// The lists that are gone, and whether those that are still known are, too.
    #[must_use]
    pub fn lists(&self) -> (Vec<Object>, bool) {
        let state = self.0.lock();
        (state.lists.values().cloned().collect(), state.is_missing)
    }

    /// What the policies show of lists that this process has never seen. `crds` gives
    /// those of which the policies have lists. Each is called once.
    #[must_use]
    pub fn shown_by_policies(
        &self,
        crds: impl FnOnce() -> BTreeSet<String>,
        read: impl FnOnce() -> List,
    ) -> Option<List> {
        let mut state = self.0.lock();
        let origin = match &state.from_policies {
            FromPolicies::Unneeded | FromPolicies::Read(_) => None,
            FromPolicies::Wanted => crds().pop_first().or_else(|| Some(UNKNOWN.to_owned())),
            FromPolicies::IfOfAnother(kind) => {
                let another = crds().into_iter().find(|crd| kind.took_its_lists(Some(crd)));
                // The first that are lost are told of, too.
                state.times += u32::from(another.is_some());
                state.from_policies = FromPolicies::Unneeded;
                another
            }
        };
        if origin.is_some() {
            state.origin = origin;
            state.from_policies = FromPolicies::Read(read());
        }
        state.settle();
        state.read().cloned()
    }

    /// How many times lists were lost.
    #[must_use]
    pub fn times(&self) -> u32 {
        self.0.lock().times
    }
}

impl State {
    /// Where nothing is remembered, what is in force is of the CRD that is there.
    fn settle(&mut self) {
        let wanted =
            matches!(self.from_policies, FromPolicies::Wanted | FromPolicies::IfOfAnother(_));
        let remembers = wanted || self.read().is_some() || !self.lists.is_empty();
        if !remembers && !self.is_missing {
            self.origin.clone_from(&self.crd);
        }
    }

    fn read(&self) -> Option<&List> {
        match &self.from_policies {
            FromPolicies::Read(list) => Some(list).filter(|list| !list.exclusions.is_empty()),
            _ => None,
        }
    }

    fn keep(&mut self, lists: Vec<Object>) {
        if self.lists.is_empty() && !self.is_missing && !lists.is_empty() {
            self.times += 1;
        }
        self.lists.extend(lists.into_iter().map(|list| (list.name_any(), list)));
    }
}
