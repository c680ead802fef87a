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

use crate::world::{World, wait_until};

/// The operator as the API server knows it.
pub const OPERATOR: &str = "system:serviceaccount:signing-system:signingkeyring-operator";

/// The ClusterRole with the operator's rights on policies.
const ROLE: &str = "signingkeyring-operator";

/// What the operator's ClusterRole allowed before something was taken out.
#[derive(Debug)]
#[must_use = "the operator does not get its rights back"]
pub struct Withdrawn(Vec<PolicyRule>);

impl World {
    /// Takes a verb on ClusterPolicies away from the operator.
    ///
    /// # Errors
    /// If it has no such right, or its ClusterRole cannot be read or written.
    pub async fn withdraw_on_policies(&self, verb: &str) -> Result<Withdrawn> {
        let before = self.roles().await?.get(ROLE).await?.rules.context("no rules")?;
        let mut less = before.clone();
        for rule in &mut less {
            if rule.resources.iter().flatten().any(|resource| resource == "clusterpolicies") {
                rule.verbs.retain(|allowed| allowed != verb);
            }
        }
        ensure!(less != before, "the operator has no right to {verb} policies");
        self.set_rules(&less).await?;
        Ok(Withdrawn(before))
    }

    /// Gives the operator back what was taken.
    ///
    /// # Errors
    /// If its ClusterRole cannot be written.
    pub async fn give_back(&self, withdrawn: &Withdrawn) -> Result<()> {
        self.set_rules(&withdrawn.0).await
    }

    async fn set_rules(&self, rules: &[PolicyRule]) -> Result<()> {
        let patch = Patch::Merge(json!({"rules": rules}));
        self.roles().await?.patch(ROLE, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn roles(&self) -> Result<Api<ClusterRole>> {
        Ok(Api::all(self.client().await?))
    }

    /// Waits until the API server knows whether the operator has a right on
    /// ClusterPolicies.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn wait_for_right_on_policies(&self, verb: &str, has: bool) -> Result<()> {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client().await?);
        let question = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(OPERATOR.to_owned()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("kyverno.io".to_owned()),
                    resource: Some("clusterpolicies".to_owned()),
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
