//! The tables that are printed, as Markdown.

use serde::Serialize;
use signingkeyring_e2e_testbed::kind::Kind;

use crate::{
    asked::{Admission, Quantiles},
    bed::Arrangement,
    process::Memory,
    sizes::{Configurations, LARGEST_REQUEST},
};

/// The bytes of a CA's certificate with an RSA key, which Kyverno's chart asks for.
const RSA_CA: usize = 1_100;

/// What was seen of a cluster.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// What it had.
    pub arrangement: Arrangement,
    /// What a pod took.
    pub admission: Admission,
    /// The bytes of Kyverno's webhook configurations.
    pub configurations: Configurations,
    /// The bytes of a full policy, with what goes with it.
    pub policy: usize,
    /// What its programs had.
    pub memory: Memory,
}

/// What varies from row to row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Varies {
    /// The number of rings.
    Rings,
    /// How many share a policy.
    Pack,
    /// How many keys each accepts.
    Keys,
}

impl Varies {
    fn of(self, arrangement: Arrangement) -> usize {
        match self {
            Self::Rings => arrangement.rings,
            Self::Pack => arrangement.pack,
            Self::Keys => arrangement.keys,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Rings => "What a pod pays, by number of rings",
            Self::Pack => "What a pod pays, by rings in a policy",
            Self::Keys => "What a pod pays, by accepted keys of each ring",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Rings | Self::Pack => "ring",
            Self::Keys => "key",
        }
    }
}

/// Of what a pod pays: how long, and how many times what it is with the fewest.
#[must_use]
pub fn admission(varies: Varies, rows: &[Row]) -> String {
    let mut text = format!(
        "{}\n\n| kind | rings | per policy | keys | policies | enrolled, p50 ms | p99 | not \
         enrolled, p50 ms | p99 |\n|---|---|---|---|---|---|---|---|---|\n",
        varies.title()
    );
    for kind in Kind::ALL {
        let (first, of_kind) = of(varies, kind, rows);
        for row in of_kind {
            let Arrangement { rings, pack, keys, .. } = row.arrangement;
            let Some(first) = first.map(|first| first.admission) else { continue };
            text += &format!(
                "| {kind} | {rings} | {pack} | {keys} | {} | {} | {} |\n",
                row.arrangement.policies(),
                cells(row.admission.enrolled, first.enrolled),
                cells(row.admission.not_enrolled, first.not_enrolled),
            );
        }
    }
    text
}

fn cells(found: Quantiles, first: Quantiles) -> String {
    let ratio = |found: f64, first: f64| format!("{found:.1} ({:.1}×)", found / first);
    format!("{} | {}", ratio(found.p50, first.p50), ratio(found.p99, first.p99))
}

/// The rows of a kind, and the first of them: that with the least of what varies.
fn of(varies: Varies, kind: Kind, rows: &[Row]) -> (Option<&Row>, Vec<&Row>) {
    let mut of_kind: Vec<&Row> = rows.iter().filter(|row| row.arrangement.kind == kind).collect();
    of_kind.sort_by_key(|row| varies.of(row.arrangement));
    (of_kind.first().copied(), of_kind)
}

/// Of what one more ring, or key, costs: the difference between the most and the
/// fewest, shared out.
#[must_use]
pub fn slope(varies: Varies, rows: &[Row]) -> String {
    let unit = varies.unit();
    let mut text = String::new();
    for kind in Kind::ALL {
        let (first, of_kind) = of(varies, kind, rows);
        let (Some(first), Some(last)) = (first, of_kind.last()) else { continue };
        let [fewest, most] = [first, last].map(|row| varies.of(row.arrangement));
        if fewest == most {
            continue;
        }
        let per = |of: fn(&Row) -> f64| (of(last) - of(first)) / as_float(most - fewest);
        text += &format!(
            "{kind}: each {unit} more is {:+.2} ms to a pod that is enrolled, {:+.3} ms to one \
             that is not, {:+.0} bytes to a policy\n",
            per(|row| row.admission.enrolled.p50),
            per(|row| row.admission.not_enrolled.p50),
            per(|row| as_float(row.policy)),
        );
    }
    text
}

/// Of bytes: what Kyverno tells the API server, and what a policy weighs.
#[must_use]
pub fn sizes(rows: &[Row]) -> String {
    let mut text = String::from(
        "What is stored, in bytes\n\n| kind | rings | per policy | keys | policies | validating \
         webhooks | mutating | a policy | kube-apiserver, MiB | Kyverno |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Arrangement { kind, rings, pack, keys } = row.arrangement;
        let Configurations { validating, mutating, .. } = row.configurations;
        text += &format!(
            "| {kind} | {rings} | {pack} | {keys} | {} | {validating} | {mutating} | {} | {} | {} |\n",
            row.arrangement.policies(),
            row.policy,
            row.memory.api_server,
            row.memory.kyverno,
        );
    }
    text
}

/// From how many policies on a webhook configuration does not fit into etcd.
#[must_use]
pub fn breaks(rows: &[Row]) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let (first, of_kind) = of(Varies::Rings, kind, rows);
        let (Some(first), Some(last)) = (first, of_kind.last()) else { continue };
        let policies = last.arrangement.policies() - first.arrangement.policies();
        if policies == 0 {
            continue;
        }
        let each = |of: fn(&Configurations) -> usize| {
            of(&last.configurations).saturating_sub(of(&first.configurations)) / policies
        };
        let larger = each(|c| c.validating).max(each(|c| c.mutating));
        if larger == 0 {
            text += &format!("{kind}: the webhook configurations do not grow with its policies\n");
            continue;
        }
        let ca = last.configurations.ca;
        let with = |certificate: usize| {
            let entry = larger.saturating_sub(ca) + certificate;
            let policies = LARGEST_REQUEST / entry.max(1);
            format!("{policies} policies ({} rings)", policies * last.arrangement.pack)
        };
        text += &format!(
            "{kind}: {} bytes of the validating and {} of the mutating configuration for each \
             policy, of which the CA is {ca}. At 1.5 MiB it breaks with {}; with a CA of {RSA_CA} \
             bytes (RSA, the chart's default) with {}, and while that CA changes with {}\n",
            each(|c| c.validating),
            each(|c| c.mutating),
            with(ca),
            with(RSA_CA),
            with(2 * RSA_CA),
        );
    }
    text
}

fn as_float(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, rings: usize, validating: usize) -> Row {
        let took = Quantiles { p50: 10.0, p99: 20.0 };
        Row {
            arrangement: Arrangement { kind, rings, pack: 10, keys: 3 },
            admission: Admission { enrolled: took, not_enrolled: took },
            configurations: Configurations { validating, mutating: 900, own: 0, ca: 500 },
            policy: 1000,
            memory: Memory { api_server: 1, kyverno: 1 },
        }
    }

    #[test]
    fn a_configuration_breaks_where_its_policies_fill_a_request() {
        let rows = [
            row(Kind::ClusterPolicy, 20, 900),
            row(Kind::ClusterPolicy, 100, 901),
            row(Kind::ImageValidatingPolicy, 20, 4000),
            row(Kind::ImageValidatingPolicy, 100, 4000 + 8 * 2500),
        ];
        let text = breaks(&rows);
        assert!(
            text.starts_with("ClusterPolicy: the webhook configurations do not grow"),
            "{text}"
        );
        // 1.5 MiB are 629 times 2,500, 507 times 3,100 and 374 times 4,200 bytes.
        for words in ["629 policies (6290 rings)", "507 policies", "374 policies (3740 rings)"] {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
    }

    #[test]
    fn what_a_pod_pays_is_beside_the_fewest_of_its_kind() {
        let mut dear = row(Kind::ClusterPolicy, 1000, 900);
        dear.admission.not_enrolled = Quantiles { p50: 55.0, p99: 60.0 };
        let rows = [dear, row(Kind::ClusterPolicy, 20, 900)];
        let text = admission(Varies::Rings, &rows);
        let line = "| ClusterPolicy | 1000 | 10 | 3 | 100 | 10.0 (1.0×) | 20.0 (1.0×) | 55.0 (5.5×) | 60.0 (3.0×) |";
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(slope(Varies::Rings, &rows).contains("+0.046 ms to one that is not"));
    }
}
