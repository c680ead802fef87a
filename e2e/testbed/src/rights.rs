//! The operator's rights, taken away for a while.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRole, PolicyRule},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    audit::OPERATOR,
    kind::Kind,
    world::{World, wait_until},
};

/// The ClusterRole with the operator's rights on policies.
const ROLE: &str = "signingkeyring-operator";

/// What the operator's ClusterRole allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Rights(Vec<PolicyRule>);

impl Rights {
    /// The same without a verb on policies, of every kind.
    ///
    /// # Errors
    /// If it is not among them.
    pub fn without_on_policies(&self, verb: &str) -> Result<Self> {
        let mut less = self.clone();
        for rule in &mut less.0 {
            let mut resources = rule.resources.iter().flatten();
            if resources.any(|resource| Kind::ALL.iter().any(|kind| kind.plural() == resource)) {
                rule.verbs.retain(|allowed| allowed != verb);
            }
        }
        ensure!(less != *self, "the operator has no right to {verb} policies");
        Ok(less)
    }
}

impl World {
    /// The rights that the operator has now.
    ///
    /// # Errors
    /// If its ClusterRole cannot be read.
    pub async fn rights(&self) -> Result<Rights> {
        Ok(Rights(self.roles().await?.get(ROLE).await?.rules.context("no rules")?))
    }

    /// Gives the operator these rights and no others.
    ///
    /// # Errors
    /// If its ClusterRole cannot be written.
    pub async fn set_rights(&self, rights: &Rights) -> Result<()> {
        let patch = Patch::Merge(json!({"rules": rights.0}));
        self.roles().await?.patch(ROLE, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn roles(&self) -> Result<Api<ClusterRole>> {
        Ok(Api::all(self.client().await?))
    }

    /// Waits until the API server knows whether the operator has a right on
    /// policies of the kind under test.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn wait_for_right_on_policies(&self, verb: &str, has: bool) -> Result<()> {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client().await?);
        let question = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(OPERATOR.to_owned()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(Kind::under_test().group().to_owned()),
                    resource: Some(Kind::under_test().plural().to_owned()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        wait_until(&format!("may {verb} policies: {has}"), async || {
            let answer = reviews.create(&PostParams::default(), &question).await?;
            Ok(answer.status.is_some_and(|status| status.allowed) == has)
        })
        .await
    }
}
