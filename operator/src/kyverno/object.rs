//! A policy as it is kept.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{
    Resource, ResourceExt,
    core::{ApiResource, DynamicObject, DynamicResourceScope, ObjectMeta, TypeMeta},
};
use serde_json::{Value, json};
use signingkeyring_core::{
    marks::Marks,
    names,
    policy::{Digest, Part},
    policy_ref::{PolicyKind, PolicyRef},
    public_key::PublicKey,
};

use crate::packed::Packed;

/// An object of one of Kyverno's kinds without its status. There are hundreds of them,
/// and a pass looks at one: so its `spec` is packed, and what every ring's pass asks for
/// stands beside it.
#[derive(Debug)]
pub struct Object {
    types: Option<TypeMeta>,
    metadata: ObjectMeta,
    marks: Marks,
    body: Arc<Body>,
}

/// What follows from a `spec`, and from which rings the marks name.
#[derive(Debug)]
struct Body {
    digest: Digest,
    spec: Option<Spec>,
    /// The public keys in the rules of the rings that are named.
    keys: BTreeMap<String, Box<[PublicKey]>>,
    /// The image globs that the rules skip.
    skipped: Arc<BTreeSet<String>>,
    /// The registry credentials that it asks with, where it has one set for all of its rings.
    credentials: BTreeSet<String>,
}

#[derive(Debug)]
enum Spec {
    /// Of the few policies that every ring's pass looks into.
    Whole(Arc<Value>),
    Packed(Packed),
}

impl Object {
    /// Takes over what `before` has of the same `spec`. Of what goes with policies no
    /// rules are read.
    #[must_use]
    pub fn new(kind: Option<PolicyKind>, object: &DynamicObject, before: Option<&Self>) -> Self {
        let metadata = ObjectMeta { managed_fields: None, ..object.metadata.clone() };
        let marks = object.annotations().get(names::ANNOTATION_MARKS);
        let marks: Marks = marks.and_then(|text| text.parse().ok()).unwrap_or_default();
        let spec = object.data.get("spec");
        let digest = Part::of(spec.unwrap_or(&Value::Null)).digest;
        let same =
            before.filter(|b| b.body.digest == digest && b.marks.0.keys().eq(marks.0.keys()));
        let body = same.map_or_else(
            || {
                let is_for_rings = |policy: PolicyRef| policy.holds_rings();
                let is_packed = object.name_any().parse().map_or(true, is_for_rings);
                Arc::new(Body::of(kind, digest, spec, &marks, is_packed))
            },
            |before| Arc::clone(&before.body),
        );
        Self { types: object.types.clone(), metadata, marks, body }
    }

    /// What it says of its rings; nothing if that cannot be read.
    #[must_use]
    pub const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The image globs that its rules skip.
    #[must_use]
    pub fn skipped(&self) -> &Arc<BTreeSet<String>> {
        &self.body.skipped
    }

    /// The registry credentials that it asks with, where it has one set for all of its rings.
    #[must_use]
    pub fn credentials(&self) -> &BTreeSet<String> {
        &self.body.credentials
    }

    /// Has it share what it skips with another object that skips the same.
    pub fn share_skipped(&mut self, skipped: Arc<BTreeSet<String>>) {
        if let Some(body) = Arc::get_mut(&mut self.body)
            && body.skipped == skipped
        {
            body.skipped = skipped;
        }
    }

    /// Its `spec`.
    #[must_use]
    pub fn spec(&self) -> Option<Arc<Value>> {
        match self.body.spec.as_ref()? {
            Spec::Whole(spec) => Some(Arc::clone(spec)),
            Spec::Packed(packed) => packed.unpack().map(Arc::new),
        }
    }

    /// Tells its `spec` from others.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.body.digest
    }

    /// The public keys in its rules for a ring, as PEM.
    #[must_use]
    pub fn keys_of(&self, kind: PolicyKind, ring: &str) -> BTreeSet<String> {
        match self.body.keys.get(ring) {
            Some(keys) => keys.iter().map(ToString::to_string).collect(),
            None => self.spec().map(|spec| kind.keys_of(&spec, ring)).unwrap_or_default(),
        }
    }

    /// All of it but its status, as the client sends it.
    #[must_use]
    pub fn whole(&self) -> DynamicObject {
        DynamicObject {
            types: self.types.clone(),
            metadata: self.metadata.clone(),
            data: self.spec().map_or_else(|| json!({}), |spec| json!({"spec": *spec})),
        }
    }
}

impl Body {
    fn of(
        kind: Option<PolicyKind>,
        digest: Digest,
        spec: Option<&Value>,
        marks: &Marks,
        is_packed: bool,
    ) -> Self {
        let rules = spec.zip(kind);
        let keys_of = |ring: &String| {
            let (spec, kind) = rules?;
            let keys = kind.keys_of(spec, ring);
            Some((ring.clone(), keys.iter().map(|key| PublicKey::from(&**key)).collect()))
        };
        let skipped = rules.map(|(spec, kind)| kind.skipped(spec)).unwrap_or_default();
        Self {
            digest,
            spec: spec.map(|spec| match is_packed {
                true => Spec::Packed(Packed::of(spec)),
                false => Spec::Whole(Arc::new(spec.clone())),
            }),
            keys: marks.0.keys().filter_map(keys_of).collect(),
            skipped: Arc::new(skipped),
            credentials: rules.map(|(spec, kind)| kind.credentials_of(spec)).unwrap_or_default(),
        }
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(kind)
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(kind)
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(kind)
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: PolicyKind = PolicyKind::ClusterPolicy;

    fn policy(version: &str, marks: &str, key: &str) -> DynamicObject {
        let rule = |ring: &str| {
            json!({"name": ring, "verifyImages": [{
                "skipImageReferences": ["quay.io/*"],
                "attestors": [{"entries": [{"keys": {"publicKeys": key}}]}],
            }]})
        };
        serde_json::from_value(json!({
            "apiVersion": "kyverno.io/v1",
            "kind": "ClusterPolicy",
            "metadata": {
                "name": "signing-enforce-0001",
                "resourceVersion": version,
                "managedFields": [{"manager": "somebody"}],
                "annotations": {names::ANNOTATION_MARKS: marks},
            },
            "spec": {"rules": [rule("shop"), rule("pay")]},
            "status": {"ready": true},
        }))
        .unwrap()
    }

    #[test]
    fn all_of_a_policy_is_kept_but_its_status_and_who_wrote_it() {
        let given = policy("1", "shop=1.aa.bb", "key");
        let kept = Object::new(Some(KIND), &given, None);
        assert_eq!(kept.spec().as_deref(), given.data.get("spec"));
        assert_eq!(kept.marks().to_string(), "shop=1.aa.bb");
        assert_eq!(kept.skipped().iter().collect::<Vec<_>>(), ["quay.io/*"]);
        let whole = kept.whole();
        assert_eq!(whole.data, json!({"spec": given.data["spec"]}));
        let metadata = ObjectMeta { managed_fields: None, ..given.metadata.clone() };
        assert_eq!((whole.metadata, whole.types), (metadata, given.types));
    }

    #[test]
    fn the_keys_of_a_rule_are_known_whether_or_not_a_mark_names_it() {
        let kept = Object::new(Some(KIND), &policy("1", "shop=1.aa.bb", "key"), None);
        for ring in ["shop", "pay"] {
            assert_eq!(kept.keys_of(KIND, ring), ["key".to_owned()].into());
        }
        assert_eq!(kept.keys_of(KIND, "other"), BTreeSet::new());
    }

    #[test]
    fn what_follows_from_a_spec_is_made_anew_when_that_changes_or_what_its_marks_name() {
        let first = Object::new(Some(KIND), &policy("1", "shop=1.aa.bb", "key"), None);
        let again = |policy| Object::new(Some(KIND), &policy, Some(&first));
        let same = again(policy("2", "shop=2.aa.bb", "key"));
        assert!(Arc::ptr_eq(&first.body, &same.body));
        assert_eq!(
            (same.resource_version().as_deref(), same.digest()),
            (Some("2"), first.digest())
        );
        let more = again(policy("3", "pay=1.aa.bb shop=2.aa.bb", "key"));
        assert_eq!(more.body.keys.len(), 2);
        let other = again(policy("4", "shop=2.aa.bb", "another key"));
        assert_eq!(other.keys_of(KIND, "shop"), ["another key".to_owned()].into());
        assert_ne!(other.digest(), first.digest());
    }
}
