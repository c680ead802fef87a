//! The commands that let this operator use a Secret of somebody's namespace: they
//! name the account and the role that are installed, whatever those are called.

use std::fmt;

use crate::{ledger::PipelineRef, names::DEFAULT_SECRET_NAME, snapshot::OperatorFacts};

/// Who the operator is to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// A ServiceAccount.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Somebody else, such as a user with a kubeconfig.
    User(String),
}

impl Account {
    /// Whom the API server calls by this name.
    #[must_use]
    pub fn of_user_name(name: &str) -> Self {
        let service = name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':'));
        match service {
            Some((namespace, name)) => {
                Self::Service { namespace: namespace.to_owned(), name: name.to_owned() }
            }
            None => Self::User(name.to_owned()),
        }
    }
}

/// As the flag of a command that names the subject of a binding.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { namespace, name } => write!(f, "--serviceaccount={namespace}:{name}"),
            Self::User(name) => write!(f, "--user={}", quoted(name)),
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":._@/-+=".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

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

    #[test]
    fn the_subject_is_who_the_operator_is() {
        for (name, flag) in [
            ("system:serviceaccount:acme-signing:acme-op", "--serviceaccount=acme-signing:acme-op"),
            ("system:serviceaccount:odd", "--user=system:serviceaccount:odd"),
            ("jane@example.com", "--user=jane@example.com"),
            ("O'Neil, J", r"--user='O'\''Neil, J'"),
        ] {
            assert_eq!(Account::of_user_name(name).to_string(), flag);
        }
    }

    #[test]
    fn two_secrets_of_a_namespace_are_granted_by_objects_of_their_own() {
        let operator = OperatorFacts {
            namespace: "acme-signing".into(),
            enrolment_label: "ring".into(),
            account: Account::User("x".into()),
            pipeline_role: "acme-pipeline".into(),
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
