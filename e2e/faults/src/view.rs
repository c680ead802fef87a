//! A view: the part of one shared cluster that one run sees as its whole
//! cluster. Requests and answers are rewritten so that the operators of many
//! runs never meet, while API server and Kyverno are the real ones.

use http::{Uri, uri::PathAndQuery};
use serde_json::{Value, json};

/// The label that says which view an object belongs to.
pub const LABEL: &str = "faults.test/view";

/// One run's part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    name: String,
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The plural.
    pub resource: String,
    /// Empty for what is cluster-scoped.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// Such as `status`.
    pub subresource: String,
    /// A watch.
    pub watch: bool,
    /// A dry run.
    pub dry_run: bool,
}

impl Target {
    /// Reads a request's path and query.
    #[must_use]
    pub fn of(uri: &Uri) -> Self {
        let mut words = uri.path().split('/').filter(|word| !word.is_empty());
        // /api/v1/... or /apis/GROUP/VERSION/...
        let skipped = if words.next() == Some("api") { 1 } else { 2 };
        let mut words: Vec<&str> = words.skip(skipped).collect();
        let mut namespace = "";
        if words.len() > 2 && words[0] == "namespaces" {
            namespace = words[1];
            words.drain(..2);
        }
        let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
        let query = uri.query().unwrap_or_default();
        Self {
            resource: word(0),
            namespace: namespace.to_owned(),
            name: word(1),
            subresource: word(2),
            watch: query.split('&').any(|part| part == "watch=true"),
            dry_run: query.split('&').any(|part| part == "dryRun=All"),
        }
    }

    /// Whether the operator's names of policies stand in request and answer.
    #[must_use]
    pub fn names_policies(&self) -> bool {
        let (policies, questions) =
            (POLICIES.map(|(_, plural)| plural), ["gatequestions", "configmaps"]);
        // Kyverno calls webhooks after policies, and says in events which one answered.
        let others = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations", "events"];
        let named = policies.iter().chain(&questions).chain(&others);
        named.into_iter().any(|plural| *plural == self.resource)
    }

    /// What is addressed, for a log.
    #[must_use]
    pub fn describe(&self) -> String {
        [&self.resource, &self.namespace, &self.name, &self.subresource]
            .into_iter()
            .filter(|word| !word.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("/")
    }

    fn is_shared_collection(&self) -> bool {
        let policies = POLICIES.map(|(_, plural)| plural);
        let others = ["signingkeyrings", "imageexclusionlists", "namespaces"];
        let mut shared = policies.iter().chain(&others);
        self.name.is_empty() && shared.any(|plural| *plural == self.resource)
    }
}

/// The kinds of policies, and as the API's paths name them.
const POLICIES: [(&str, &str); 3] = [
    ("ClusterPolicy", "clusterpolicies"),
    ("ImageValidatingPolicy", "imagevalidatingpolicies"),
    ("MutatingPolicy", "mutatingpolicies"),
];

/// As the operator calls its policies.
const POLICY_PREFIXES: [&str; 5] =
    ["signing-enforce-", "signing-audit-", "signing.enforce-", "signing.audit-", "signing.pin-"];

impl View {
    /// The view of this number.
    #[must_use]
    pub fn numbered(number: usize) -> Self {
        Self { name: format!("x{number:02}") }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ring, to which a scenario happens.
    #[must_use]
    pub fn ring(&self) -> &str {
        &self.name
    }

    /// Its second ring, which shares a policy with the first.
    #[must_use]
    pub fn neighbour(&self) -> String {
        format!("{}-neighbour", self.name)
    }

    /// One of its namespaces: `system`, `dev`, `ci`, `ci2`, `foreign`, and the
    /// neighbour's `neighbour-dev` and `neighbour-ci`.
    #[must_use]
    pub fn namespace(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    /// What selects its objects.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("{LABEL}={}", self.name)
    }

    /// The view that a namespace belongs to.
    #[must_use]
    pub fn of_namespace(namespace: &str) -> Option<&str> {
        let (name, _) = namespace.split_once('-')?;
        name.strip_prefix('x').filter(|n| n.parse::<usize>().is_ok()).map(|_| name)
    }

    /// A request's address in the shared cluster.
    ///
    /// # Errors
    /// If it cannot be rewritten.
    pub fn uri(&self, uri: &Uri, target: &Target) -> anyhow::Result<Uri> {
        let mut text = uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        if target.names_policies() {
            text = self.outward(&text);
        }
        if target.is_shared_collection() {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(&format!(
                "labelSelector={}",
                self.selector().replace('=', "%3D").replace('/', "%2F")
            ));
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(text.parse()?);
        Ok(Uri::from_parts(parts)?)
    }

    /// A request's body in the shared cluster.
    #[must_use]
    pub fn body(&self, target: &Target, body: &[u8]) -> Vec<u8> {
        if !target.names_policies() {
            return body.to_vec();
        }
        let text = self.outward(&String::from_utf8_lossy(body));
        match serde_json::from_str::<Value>(&text) {
            Ok(mut object) if POLICIES.iter().any(|(kind, _)| object["kind"] == *kind) => {
                object["metadata"]["labels"][LABEL] = json!(self.name);
                object.to_string().into_bytes()
            }
            _ => text.into_bytes(),
        }
    }

    /// An answer as the operator is to see it.
    #[must_use]
    pub fn inward(&self, text: &str) -> String {
        POLICY_PREFIXES
            .iter()
            .fold(text.to_owned(), |text, theirs| text.replace(&self.policy_prefix(theirs), theirs))
    }

    fn outward(&self, text: &str) -> String {
        POLICY_PREFIXES
            .iter()
            .fold(text.to_owned(), |text, theirs| text.replace(theirs, &self.policy_prefix(theirs)))
    }

    fn policy_prefix(&self, theirs: &str) -> String {
        theirs.replacen("signing", &self.name, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Target {
        Target::of(&uri.parse().unwrap())
    }

    #[test]
    fn requests_are_understood() {
        let status =
            target("/apis/signing.odj.cloud/v1alpha1/signingkeyrings/x01/status?force=true");
        assert_eq!(
            (status.resource.as_str(), status.subresource.as_str()),
            ("signingkeyrings", "status")
        );
        let ledger = target("/api/v1/namespaces/x01-system/secrets/ring-x01");
        assert_eq!((ledger.resource.as_str(), ledger.name.as_str()), ("secrets", "ring-x01"));
        assert_eq!(ledger.namespace, "x01-system");
        assert!(target("/api/v1/namespaces?&watch=true").watch);
        let pin = target("/apis/policies.kyverno.io/v1/mutatingpolicies/signing.pin-0001");
        assert!(pin.names_policies());
        let question = "/apis/signing.odj.cloud/v1alpha1/namespaces/x01-system/gatequestions";
        let question = target(&format!("{question}?&dryRun=All"));
        assert!(question.dry_run && question.names_policies());
    }

    #[test]
    fn policies_are_renamed_both_ways_and_labelled() {
        let view = View::numbered(7);
        let uri: Uri = "/apis/kyverno.io/v1/clusterpolicies/signing-enforce-0001".parse().unwrap();
        let target = Target::of(&uri);
        let outside = view.uri(&uri, &target).unwrap();
        assert_eq!(outside.path(), "/apis/kyverno.io/v1/clusterpolicies/x07-enforce-0001");
        let body = view
            .body(&target, br#"{"kind":"ClusterPolicy","metadata":{"name":"signing-audit-0001"}}"#);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["metadata"]["name"], "x07-audit-0001");
        assert_eq!(body["metadata"]["labels"][LABEL], "x07");
        let pin = view
            .body(&target, br#"{"kind":"MutatingPolicy","metadata":{"name":"signing.pin-0001"}}"#);
        let pin: Value = serde_json::from_slice(&pin).unwrap();
        assert_eq!(pin["metadata"]["name"], "x07.pin-0001");
        assert_eq!(pin["metadata"]["labels"][LABEL], "x07");
        let said = "webhook-finegrained-x07.enforce-0001 said x07.enforce-0001.aa";
        assert_eq!(
            view.inward(said),
            "webhook-finegrained-signing.enforce-0001 said signing.enforce-0001.aa"
        );
        let rules = br#"{"kind":"ClusterPolicy","spec":{"rules":["x07","x07-neighbour"]}}"#;
        let both: Value = serde_json::from_slice(&view.body(&target, rules)).unwrap();
        assert_eq!(both["spec"]["rules"], json!([view.ring(), view.neighbour()]));
        assert_eq!(view.inward(&both.to_string()), both.to_string());
        assert_eq!(
            view.inward("x07-audit-0001 x08-audit-0001"),
            "signing-audit-0001 x08-audit-0001"
        );
    }

    #[test]
    fn collections_are_narrowed_to_the_view() {
        let view = View::numbered(7);
        let uri: Uri = "/api/v1/namespaces?&limit=500".parse().unwrap();
        let outside = view.uri(&uri, &Target::of(&uri)).unwrap();
        assert_eq!(outside.query(), Some("&limit=500&labelSelector=faults.test%2Fview%3Dx07"));
        assert_eq!(View::of_namespace("x07-ci"), Some("x07"));
        assert_eq!(View::of_namespace("x07-neighbour-ci"), Some("x07"));
        assert_eq!(View::of_namespace("kube-system"), None);
    }
}
