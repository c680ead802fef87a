//! Asks Kyverno what it has loaded of a policy, as the policy's kind is asked.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    core::ObjectMeta,
};
use signingkeyring_crds::{GateQuestion, GateQuestionSpec};
use signingkeyring_e2e_observer::{
    marks::{ANSWER, Marks},
    parse,
};
use signingkeyring_e2e_testbed::kind::Kind;
use tokio::time::sleep;

use super::{
    policies,
    run::{NAMESPACE, Run},
};

/// How often it is looked for an event, at a tenth of a second each.
const LOOKS: usize = 10;

/// What Kyverno has loaded of a policy.
///
/// # Errors
/// If it does not answer.
pub async fn ask(run: &Run, policy: &str) -> Result<Marks> {
    match Kind::of(policy) {
        Kind::ClusterPolicy => stamped(run, policy).await,
        Kind::ImageValidatingPolicy => named(run, policy).await,
    }
}

/// The policy's gate rule stamps its marks on the question.
async fn stamped(run: &Run, policy: &str) -> Result<Marks> {
    let questions: Api<GateQuestion> = Api::namespaced(run.client.clone(), NAMESPACE);
    let question = GateQuestion::new(policy, GateQuestionSpec::default());
    let dry_run = PostParams { dry_run: true, field_manager: None };
    let answered = questions.create(&dry_run, &question).await?;
    let answer = answered.annotations().get(ANSWER).context("no answer")?;
    Marks::parse(answer)
}

/// The question has the name of what stands in the policy, and no other is answered:
/// by a refusal, or by an event where nothing is refused.
async fn named(run: &Run, policy: &str) -> Result<Marks> {
    let stands = serde_json::to_value(policies::api(run, policy).get(policy).await?)?;
    let marks = Marks::of_policy(&stands)?;
    let name = parse::question(&stands).context("it answers no question")?;
    let namespace = Kind::ImageValidatingPolicy.asked_in();
    let questions: Api<ConfigMap> = Api::namespaced(run.client.clone(), namespace);
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let question = ConfigMap { metadata, ..ConfigMap::default() };
    let dry_run = PostParams { dry_run: true, field_manager: None };
    match questions.create(&dry_run, &question).await {
        Err(error) => {
            let said = format!("Policy {policy} failed: {name}");
            ensure!(error.to_string().contains(&said), "{error}");
            Ok(marks)
        }
        Ok(passed) => {
            let events: Api<Event> = Api::namespaced(run.client.clone(), namespace);
            let uid = passed.uid().unwrap_or_default();
            let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
            for _ in 0..LOOKS {
                sleep(Duration::from_millis(100)).await;
                let says =
                    |event: &Event| event.message.as_ref().is_some_and(|m| m.contains(&name));
                if events.list(&about).await?.items.iter().any(says) {
                    return Ok(marks);
                }
            }
            bail!("no answer")
        }
    }
}
