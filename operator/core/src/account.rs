//! Who the operator is to the API server, as commands name it.

use std::fmt;

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

    /// What the API server calls it.
    #[must_use]
    pub fn user_name(&self) -> String {
        match self {
            Self::Service { namespace, name } => {
                format!("system:serviceaccount:{namespace}:{name}")
            }
            Self::User(name) => name.clone(),
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
}
