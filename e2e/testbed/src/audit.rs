//! What the operator asks the API server for, as the API server notes it: a
//! write that changes nothing shows nowhere else.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// The operator as the API server knows it.
pub const OPERATOR: &str = "system:serviceaccount:signing-system:signingkeyring-operator";

/// The file that says what is noted.
pub const POLICY: &str = "audit-policy.yaml";

/// The file with what was noted, an event a line.
pub const LOG: &str = "audit.jsonl";

/// Writes the file that says what is noted: of the operator alone, so that it
/// costs the tests nothing.
///
/// # Errors
/// If it cannot be written.
pub fn write_policy(folder: &Path) -> Result<()> {
    let policy = format!(
        "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ['{OPERATOR}']
  verbs: [get, list, create, update, patch, delete]
  resources:
  - {{group: '', resources: [secrets]}}
  - {{group: events.k8s.io, resources: [events]}}
  - {{group: kyverno.io, resources: [clusterpolicies]}}
  - {{group: policies.kyverno.io, resources: [imagevalidatingpolicies, mutatingpolicies]}}
  - {{group: signing.odj.cloud}}
- level: Metadata
  users: ['{OPERATOR}']
  verbs: [create, update, patch, delete]
  resources:
  - {{group: coordination.k8s.io, resources: [leases]}}
- level: None
"
    );
    fs::write(folder.join(POLICY), policy).context("writing the audit policy")
}

/// A request of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The plural of the kind, with the subresource: `signingkeyrings/status`.
    pub resource: String,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether nothing was to be stored.
    pub dry_run: bool,
    /// The answer.
    pub code: u64,
}

impl Request {
    fn of(event: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let mut resource = text(&object["resource"]);
        if let Some(part) = object["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        Some(Self {
            verb: text(&event["verb"]),
            resource,
            namespace: text(&object["namespace"]),
            name: text(&object["name"]),
            dry_run: text(&event["requestURI"]).contains("dryRun="),
            code: event["responseStatus"]["code"].as_u64()?,
        })
    }

    /// Whether the API server did as asked.
    #[must_use]
    pub fn was_done(&self) -> bool {
        self.code < 300
    }

    /// Whether something was to be stored.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !self.dry_run && !matches!(self.verb.as_str(), "get" | "list")
    }
}

/// The requests from some moment on.
#[derive(Clone, Copy, Debug)]
pub struct Requests(u64);

impl Requests {
    /// Those from now on, of the cluster of a folder.
    ///
    /// # Errors
    /// If nothing is noted.
    pub fn from_now(folder: &Path) -> Result<Self> {
        let log = folder.join(LOG);
        Ok(Self(fs::metadata(log).context("the API server notes nothing")?.len()))
    }

    /// Those up to now that were to store something.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn writes_until_now(self, folder: &Path) -> Result<Vec<Request>> {
        let mut requests = self.until_now(folder)?;
        requests.retain(Request::is_write);
        Ok(requests)
    }

    /// Those up to now.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn until_now(self, folder: &Path) -> Result<Vec<Request>> {
        let mut log = File::open(folder.join(LOG))?;
        log.seek(SeekFrom::Start(self.0))?;
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let events = whole.lines().map(serde_json::from_str::<Value>);
        let requests = events.map(|event| Ok(Request::of(&event?)));
        requests.filter_map(Result::transpose).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_that_tries_only_or_reads_is_no_write() {
        let mut event = json!({
            "verb": "update",
            "requestURI": "/api/v1/namespaces/a/secrets/b?&fieldManager=x",
            "objectRef": {"resource": "secrets", "namespace": "a", "name": "b"},
            "responseStatus": {"code": 409},
        });
        let request = Request::of(&event).unwrap();
        assert_eq!((request.verb.as_str(), request.name.as_str()), ("update", "b"));
        assert_eq!(request.resource, "secrets");
        assert!(request.is_write() && !request.was_done());
        event["requestURI"] = json!("/api/v1/namespaces/a/secrets/b?dryRun=All");
        event["objectRef"]["subresource"] = json!("status");
        let request = Request::of(&event).unwrap();
        assert_eq!(request.resource, "secrets/status");
        assert!(!request.is_write());
        event["requestURI"] = json!("/api/v1/namespaces/a/secrets/b");
        event["verb"] = json!("get");
        assert!(!Request::of(&event).unwrap().is_write());
    }
}
