//! What Kyverno's ConfigMap has it leave out, read as Kyverno 1.19 reads it.

use std::collections::BTreeMap;

use super::{Accepted, Concerned, Omission, wildcard::fits};

/// What Kyverno's ConfigMap has it leave out, as far as that bears on pods. Its
/// `webhooks` and `matchConditions` show in the webhook configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    filters: Vec<Filter>,
    /// As `--accept-exclusions` names them.
    excluded: Vec<String>,
}

/// A resourceFilter that fits pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    text: String,
    /// A pattern.
    namespace: String,
}

/// The entries of the ConfigMap that exclude who asks, and what such an exclusion
/// is called here.
const WHO: [(&str, &str); 4] = [
    ("excludeUsernames", "user"),
    ("excludeGroups", "group"),
    ("excludeRoles", "role"),
    ("excludeClusterRoles", "clusterrole"),
];

impl Settings {
    /// Reads a ConfigMap's data. Without a ConfigMap Kyverno leaves out nothing.
    #[must_use]
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let filters = data.get("resourceFilters").map(String::as_str).unwrap_or_default();
        Self { filters: filters_of(filters), excluded: excluded(data) }
    }

    pub(super) fn omissions(&self, accepted: &Accepted, ring: &Concerned) -> Vec<Omission> {
        let filtered = self.filters.iter().filter_map(|filter| {
            let names = ring.namespaces.keys();
            let namespaces: Vec<String> =
                names.filter(|name| fits(&filter.namespace, name)).cloned().collect();
            let filter = filter.text.clone();
            (!namespaces.is_empty()).then_some(Omission::Filtered { filter, namespaces })
        });
        let mut found: Vec<Omission> = filtered.collect();
        let who: Vec<String> =
            self.excluded.iter().filter(|who| !accepted.has(who)).cloned().collect();
        if !who.is_empty() {
            found.push(Omission::Excluded { who });
        }
        found
    }
}

/// The filters that fit pods or ephemeral containers of pods, whatever their name.
fn filters_of(text: &str) -> Vec<Filter> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, from)) = rest.split_once('[') {
        let Some((inner, after)) = from.split_once(']') else { break };
        // Of `[[` Kyverno takes the inner one.
        if inner.contains('[') {
            rest = from;
            continue;
        }
        rest = after;
        // More than three parts are none.
        if inner.split(',').count() > 3 {
            continue;
        }
        let mut parts = inner.split(',');
        let kind = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or_default();
        if fits_pods(kind) {
            let (text, namespace) = (format!("[{inner}]"), namespace.to_owned());
            found.push(Filter { text, namespace });
        }
    }
    found
}

/// Whether a kind, as Kyverno's selectors name one, is that of pods or of their
/// ephemeral containers.
pub(super) fn fits_pods(kind: &str) -> bool {
    let Some([group, version, kind, subresource]) = parse_kind(kind) else { return false };
    fits(group, "")
        && fits(version, "v1")
        && fits(kind, "Pod")
        && ["", "ephemeralcontainers"].iter().any(|what| fits(subresource, what))
}

/// Group, version, kind and subresource of a selector such as `Pod`, `v1/Pod`,
/// `apps/v1/Deployment` or `Pod/ephemeralcontainers`.
pub(super) fn parse_kind(text: &str) -> Option<[&str; 4]> {
    let (head, last) =
        text.rsplit_once('/').map_or((None, text), |(head, last)| (Some(head), last));
    let parts: Vec<&str> =
        head.into_iter().flat_map(|head| head.split('/')).chain(last.split('.')).collect();
    match parts[..] {
        [kind] => Some(["*", "*", kind, ""]),
        ["*", "*"] => Some(["*"; 4]),
        ["*", subresource] if subresource.to_lowercase() == subresource => {
            Some(["*", "*", "*", subresource])
        }
        [version, kind] if is_version(version) => Some(["*", version, kind, ""]),
        [kind, subresource] => Some(["*", "*", kind, subresource]),
        [version, kind, subresource] if is_version(version) => {
            Some(["*", version, kind, subresource])
        }
        [group, version, kind] => Some([group, version, kind, ""]),
        [group, version, kind, subresource] => Some([group, version, kind, subresource]),
        _ => None,
    }
}

/// `v1`, `v1beta1`, `v2alpha3` or `*`.
fn is_version(text: &str) -> bool {
    let digit = |text: &str| matches!(text.as_bytes(), [b'0'..=b'9']);
    let Some(rest) = text.strip_prefix('v') else { return text == "*" };
    let Some((first, rest)) = rest.split_at_checked(1) else { return false };
    let stage = rest.strip_prefix("alpha").or_else(|| rest.strip_prefix("beta"));
    digit(first) && (rest.is_empty() || stage.is_some_and(digit))
}

/// Who is excluded, less those that are taken back in: an entry with a `!` counts
/// before all exclusions.
fn excluded(data: &BTreeMap<String, String>) -> Vec<String> {
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for (entry, kind) in WHO {
        let listed = data.get(entry).map(String::as_str).unwrap_or_default();
        for name in listed.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name.strip_prefix('!').map(str::trim) {
                Some("") => {}
                Some(name) => back.push((kind, name)),
                None => out.push((kind, name)),
            }
        }
    }
    // Everybody has a name, and is in a group.
    let everybody = [("user", "*"), ("group", "*"), ("group", "system:authenticated")];
    if everybody.iter().any(|all| back.contains(all)) {
        return Vec::new();
    }
    // Of two patterns that differ it is not known whether one has all that the other has.
    let is_pattern = |name: &str| name.contains(['*', '?']);
    let is_back = |(kind, name): &(&str, &str)| {
        let has = |taken: &str| taken == *name || !is_pattern(name) && fits(taken, name);
        back.iter().any(|(of, taken)| of == kind && (*taken == "*" || has(taken)))
    };
    out.retain(|excluded| !is_back(excluded));
    out.into_iter().map(|(kind, name)| format!("{kind}:{name}")).collect()
}
