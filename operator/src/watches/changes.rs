//! What an event has changed: after a complete list that is told by what was there before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{ResourceExt, core::DynamicObject, runtime::watcher::Event};

use crate::{
    cache::{Objects, ObjectsWriter},
    kyverno::Object,
};

/// An object that is another than before.
pub(super) struct Change {
    pub(super) name: String,
    pub(super) before: Option<Arc<Object>>,
    pub(super) after: Option<Arc<Object>>,
}

impl Change {
    /// Has an event taken in; returns what it has changed. A complete list tells of all that
    /// there are: few of them are others than before.
    pub(super) fn by(
        event: &Event<DynamicObject>,
        store: &Objects,
        writer: &mut ObjectsWriter,
    ) -> Vec<Self> {
        let all = || store.state().into_iter().map(|object| object.name_any());
        let names = |event: &Event<DynamicObject>| -> BTreeSet<String> {
            match event {
                Event::Apply(object) | Event::Delete(object) => [object.name_any()].into(),
                Event::InitDone => all().collect(),
                Event::Init | Event::InitApply(_) => BTreeSet::new(),
            }
        };
        let mut before: BTreeMap<String, Option<Arc<Object>>> =
            names(event).into_iter().map(|name| (name.clone(), store.get(&name))).collect();
        writer.apply(event);
        for name in names(event) {
            before.entry(name).or_default();
        }
        let changes = before.into_iter().map(|(name, before)| {
            let after = store.get(&name);
            Self { name, before, after }
        });
        changes.filter(Self::is_one).collect()
    }

    /// One that is as it was is kept as it was.
    fn is_one(&self) -> bool {
        match (&self.before, &self.after) {
            (None, None) => false,
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::policy_ref::{Action, PolicyKind, PolicyRef};

    use super::*;
    use crate::{cache::Policies, kyverno};

    const KIND: PolicyKind = PolicyKind::ClusterPolicy;

    fn policy(number: u32, version: &str) -> DynamicObject {
        let name = PolicyRef::new(Action::Enforce, number).to_string();
        let mut object = DynamicObject::new(&name, &kyverno::resource(KIND));
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    #[test]
    fn a_list_tells_of_what_is_another_than_before() {
        let (policies, mut writers) = Policies::new();
        let mut writer = writers.kinds.remove(0).1;
        let mut changed = |event: Event<DynamicObject>| -> Vec<(String, bool, bool)> {
            let changes = Change::by(&event, policies.of(KIND), &mut writer).into_iter();
            changes.map(|c| (c.name, c.before.is_some(), c.after.is_some())).collect()
        };
        let name = |number| policy(number, "").name_any();
        for number in [1, 2, 3] {
            let new = (name(number), false, true);
            assert_eq!(changed(Event::Apply(policy(number, "1"))), [new]);
        }
        assert_eq!(changed(Event::Init), []);
        for (number, version) in [(1, "1"), (2, "2"), (4, "3")] {
            assert_eq!(changed(Event::InitApply(policy(number, version))), []);
        }
        let wanted = [(name(2), true, true), (name(3), true, false), (name(4), false, true)];
        assert_eq!(changed(Event::InitDone), wanted);
        assert_eq!(changed(Event::Delete(policy(1, "4"))), [(name(1), true, false)]);
    }
}
