//! The exclusion lists that are gone with their kind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{ResourceExt, core::DeserializeGuard};
use signingkeyring_core::policy::exclusions::{List, remembered::Kind};
use signingkeyring_crds::ImageExclusionList;

type Object = Arc<DeserializeGuard<ImageExclusionList>>;

/// The lists that are gone with their kind, and stay in force.
#[derive(Debug, Default)]
pub struct LostLists(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The CRD of which the lists were that this process has seen.
    crd: Option<String>,
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
    Wanted,
    Read(List),
}

impl LostLists {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the kind is not served. Returns whether that is new.
    pub fn kind_is_missing(&self) -> bool {
        let mut state = self.lock();
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
        let mut state = self.lock();
        if kind.took_its_lists(state.crd.as_deref()) {
            let is_first = state.crd.is_none();
            state.keep(vanished);
            if is_first {
                // It is being deleted: some may be gone already.
                state.from_policies = FromPolicies::Wanted;
            }
        }
        if has_any && !matches!(kind, Kind::Served { leaving: true, .. }) {
            state.from_policies = FromPolicies::Unneeded;
        }
        state.is_missing = false;
        if let Kind::Served { uid, .. } = kind {
            state.crd = Some(uid.clone());
        }
    }

    /// Notes a list that was deleted. Returns whether it is the first that went
    /// with its kind: the others follow it, so from now on they count as gone.
    pub fn deleted(&self, kind: &Kind, list: Object) -> bool {
        let mut state = self.lock();
        if !kind.took_its_lists(state.crd.as_deref()) {
            return false;
        }
        state.keep(vec![list]);
        !std::mem::replace(&mut state.is_missing, true)
    }

    /// Notes that a list is there.
    pub fn is_there(&self, name: &str) {
        let mut state = self.lock();
        state.lists.remove(name);
        state.from_policies = FromPolicies::Unneeded;
    }

    /// The lists that are gone, and whether those that are still known are, too.
    #[must_use]
    pub fn lists(&self) -> (Vec<Object>, bool) {
        let state = self.lock();
        (state.lists.values().cloned().collect(), state.is_missing)
    }

    /// What the policies show of lists that this process has never seen. `read`
    /// is called once.
    #[must_use]
    pub fn shown_by_policies(&self, read: impl FnOnce() -> List) -> Option<List> {
        let mut state = self.lock();
        if matches!(state.from_policies, FromPolicies::Wanted) {
            state.from_policies = FromPolicies::Read(read());
        }
        match &state.from_policies {
            FromPolicies::Read(list) if !list.exclusions.is_empty() => Some(list.clone()),
            FromPolicies::Read(_) | FromPolicies::Unneeded | FromPolicies::Wanted => None,
        }
    }

    /// How many times lists were lost.
    #[must_use]
    pub fn times(&self) -> u32 {
        self.lock().times
    }
}

impl State {
    fn keep(&mut self, lists: Vec<Object>) {
        if self.lists.is_empty() && !self.is_missing && !lists.is_empty() {
            self.times += 1;
        }
        self.lists.extend(lists.into_iter().map(|list| (list.name_any(), list)));
    }
}
