//! What the API server was asked for, by its own count.

use std::collections::BTreeMap;

use anyhow::Result;
use http::Request;
use kube::Client;

/// The API server's counter.
const COUNTER: &str = "apiserver_request_total{";

/// What the operator works with. Others ask for it, too, but little: Kyverno for its
/// own Secrets and for the status of policies.
const RESOURCES: [&str; 7] = [
    "signingkeyrings",
    "secrets",
    "clusterpolicies",
    "imagevalidatingpolicies",
    "mutatingpolicies",
    "gatequestions",
    "events",
];

/// How many requests there were, by verb and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<String, u64>);

impl Requests {
    /// Those since the API server started.
    ///
    /// # Errors
    /// If it does not tell.
    pub async fn now(client: &Client) -> Result<Self> {
        let text = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        Ok(Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let mut requests = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(COUNTER)) {
            let Some((labels, count)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
            let part = label("subresource").filter(|part| !part.is_empty());
            if !RESOURCES.contains(&resource) || verb == "WATCH" {
                continue;
            }
            let resource = part.map_or(resource.to_owned(), |part| format!("{resource}/{part}"));
            let dry =
                if label("dry_run").is_some_and(|dry| !dry.is_empty()) { " (dry run)" } else { "" };
            let count = count.parse::<f64>().unwrap_or_default();
            *requests.entry(format!("{verb} {resource}{dry}")).or_default() += whole(count);
        }
        Self(requests)
    }

    /// Those that came since others were counted.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let more = |(what, count): (&String, &u64)| {
            let more = count - before.0.get(what).unwrap_or(&0);
            (more > 0).then(|| (what.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, count)| (what.as_str(), *count))
    }
}

/// The API server writes counts as floating-point numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_resource_and_whether_they_only_try() {
        let line = |verb: &str, resource: &str, subresource: &str, dry: &str, count: &str| {
            format!(
                "{COUNTER}code=\"200\",component=\"apiserver\",dry_run=\"{dry}\",group=\"\",\
                 resource=\"{resource}\",scope=\"resource\",subresource=\"{subresource}\",\
                 verb=\"{verb}\",version=\"v1\"}} {count}\n"
            )
        };
        let before = Requests::read(&line("GET", "secrets", "", "", "5"));
        let now = [
            line("GET", "secrets", "", "", "7"),
            line("PATCH", "signingkeyrings", "status", "", "1e+02"),
            line("POST", "gatequestions", "", "All", "3"),
            line("PATCH", "clusterpolicies", "status", "", "4"),
            line("LIST", "pods", "", "", "9"),
        ];
        let now = Requests::read(&now.concat()).since(&before);
        let found: Vec<_> = now.iter().collect();
        let wanted = [
            ("GET secrets", 2),
            ("PATCH clusterpolicies/status", 4),
            ("PATCH signingkeyrings/status", 100),
            ("POST gatequestions (dry run)", 3),
        ];
        assert_eq!(found, wanted);
        assert_eq!(now.total(), 109);
    }
}
