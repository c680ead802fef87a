//! The commands that let this operator use a Secret of somebody's namespace: they
//! name the account and the role that are installed, whatever those are called.

use crate::{ledger::PipelineRef, names::DEFAULT_SECRET_NAME, snapshot::OperatorFacts};

/// Has the operator publish into a pipeline's Secret. Its bindings have a name for
/// each Secret, so that those of one namespace do not stand in each other's way.
pub(crate) fn publish(operator: &OperatorFacts, pipeline: &PipelineRef) -> String {
    let PipelineRef { namespace, name } = pipeline;
    let (role, account) = (&operator.pipeline_role, &operator.account);
    if name == DEFAULT_SECRET_NAME {
        return format!(
            "kubectl create rolebinding {role} --namespace={namespace} --clusterrole={role} \
             {account}"
        );
    }
    format!(
        "kubectl create rolebinding {role}-{name}-create --namespace={namespace} \
         --clusterrole={role} {account} && {}",
        on_one(operator, &format!("{role}-{name}"), pipeline, "get,update,patch,delete")
    )
}

/// Has it read a key pair.
pub(crate) fn import(operator: &OperatorFacts, from: &PipelineRef) -> String {
    on_one(operator, &format!("signingkeyring-import-{}", from.name), from, "get")
}

/// The name of the Role and of its binding by which the operator reads Kyverno's
/// ConfigMap.
const SETTINGS_ROLE: &str = "signingkeyring-kyverno-access";

/// Has it follow Kyverno's ConfigMap. The manifests hold the same as a component.
pub(crate) fn settings(operator: &OperatorFacts) -> String {
    let (namespace, name) = (&operator.kyverno.namespace, &operator.kyverno.config_map);
    format!(
        "kubectl create role {SETTINGS_ROLE} --namespace={namespace} --verb=get,list,watch \
         --resource=configmaps --resource-name={name} && kubectl create rolebinding \
         {SETTINGS_ROLE} --namespace={namespace} --role={SETTINGS_ROLE} {}",
        operator.account
    )
}

fn on_one(operator: &OperatorFacts, role: &str, secret: &PipelineRef, verbs: &str) -> String {
    let PipelineRef { namespace, name } = secret;
    format!(
        "kubectl create role {role} --namespace={namespace} --verb={verbs} --resource=secrets \
         --resource-name={name} && kubectl create rolebinding {role} --namespace={namespace} \
         --role={role} {}",
        operator.account
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Account, snapshot::KyvernoFacts};

    #[test]
    fn two_secrets_of_a_namespace_are_granted_by_objects_of_their_own() {
        let operator = OperatorFacts {
            namespace: "acme-signing".into(),
            probe_namespace: "signing-probe".into(),
            enrolment_label: "ring".into(),
            account: Account::User("x".into()),
            pipeline_role: "acme-pipeline".into(),
            kyverno: KyvernoFacts { namespace: "kyverno".into(), config_map: "kyverno".into() },
        };
        let command = |name: &str| {
            publish(&operator, &PipelineRef { namespace: "ci".into(), name: name.into() })
        };
        let created = |command: &str| -> Vec<String> {
            let each = command.split(" && ");
            let words = each.map(|c| c.split_whitespace().take(4).collect::<Vec<_>>().join(" "));
            words.collect()
        };
        let mut all = [created(&command(DEFAULT_SECRET_NAME)), created(&command("other"))].concat();
        assert_eq!(all.len(), 4);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4, "{all:?}");
    }
}
