//! The series of each ring and exclusion list. They are read from one table when they are
//! asked for, so that they go with their object, and one that is well has as few as it can.

use std::{collections::BTreeMap, fmt, num::NonZeroI64};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Unit,
};
use signingkeyring_core::{
    condition::{Condition, Kind, Reason, Status},
    ledger::Exclusion,
    report::Report,
    snapshot::Snapshot,
};

use crate::lock::Mutex;

/// What a ring is, for metrics. There are thousands of them. Times are in seconds since
/// 1970, and periods in seconds: neither is ever 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingSeries {
    /// Its state, one word.
    pub state: &'static str,
    /// The conditions that say that something is wrong or under way.
    conditions: Box<[Said]>,
    next_rotation: Option<NonZeroI64>,
    period: Option<NonZeroI64>,
    activated: Option<NonZeroI64>,
    exclusion_ends: Option<NonZeroI64>,
}

/// The type of a condition, its status and its reason.
type Said = (Kind, Status, Reason);

impl RingSeries {
    /// Of a ring of which nothing is known but that only a person can help.
    #[must_use]
    pub fn stalled(reason: Reason) -> Self {
        Self {
            state: "stalled",
            conditions: Box::new([(Kind::Stalled, Status::True, reason)]),
            next_rotation: None,
            period: None,
            activated: None,
            exclusion_ends: None,
        }
    }

    /// Of a ring that was looked at.
    #[must_use]
    pub fn of(snapshot: &Snapshot, report: &Report, state: &'static str) -> Self {
        let ring = &snapshot.ring;
        let current = snapshot.ledger.table().and_then(|ledger| ledger.current());
        let every = ring.every.filter(|_| !ring.suspend);
        let said = report.conditions.iter().filter(|said| is_news(said));
        Self {
            state,
            conditions: said.map(|said| (said.kind, said.status, said.reason)).collect(),
            next_rotation: report.next_rotation.and_then(seconds),
            period: every.and_then(|every| NonZeroI64::new(every.as_secs().try_into().ok()?)),
            activated: current.and_then(|v| v.activated_at()).and_then(seconds),
            exclusion_ends: ring
                .exclude
                .iter()
                .filter(|exclusion| exclusion.counts(snapshot.now))
                .filter_map(Exclusion::ends)
                .filter_map(seconds)
                .min(),
        }
    }
}

fn seconds(time: Timestamp) -> Option<NonZeroI64> {
    NonZeroI64::new(time.as_second())
}

/// Whether a condition says that something is wrong or under way. That something cannot be
/// seen which Kyverno might leave out may be so for good.
fn is_news(said: &Condition) -> bool {
    match said.kind {
        Kind::Stalled | Kind::Reconciling => said.status == Status::True,
        Kind::EnforcementComplete => said.status == Status::False,
        _ => said.status != Status::True,
    }
}

/// The rings and exclusion lists that there are.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    rings: BTreeMap<String, RingSeries>,
    lists: BTreeMap<String, i64>,
}

impl Table {
    /// Takes in what a ring is, or that it is gone; returns the state that it was in.
    pub(super) fn note(&self, ring: &str, series: Option<RingSeries>) -> Option<&'static str> {
        let mut known = self.0.lock();
        let before = match series {
            Some(series) => known.rings.insert(ring.to_owned(), series),
            None => known.rings.remove(ring),
        };
        before.map(|before| before.state)
    }

    /// Takes in when the first exclusion of each list ends; the others have none that does.
    pub(super) fn lists_end<'a>(&self, ends: impl Iterator<Item = (&'a str, i64)>) {
        let mut lists = BTreeMap::new();
        for (list, end) in ends {
            lists
                .entry(list.to_owned())
                .and_modify(|first: &mut i64| *first = end.min(*first))
                .or_insert(end);
        }
        self.0.lock().lists = lists;
    }
}

/// One of the times that is shown of a ring.
type Time = fn(&RingSeries) -> Option<NonZeroI64>;

/// Their names, and what they say.
const TIMES: [(&str, &str, Time); 3] = [
    ("ring_next_rotation_timestamp", "When the ring's schedule rotates it next", |ring| {
        ring.next_rotation
    }),
    ("ring_rotation_period", "How long a key of the ring is to sign, by its schedule", |ring| {
        ring.period
    }),
    ("ring_key_activated_timestamp", "When the key began to sign that does now", |ring| {
        ring.activated
    }),
];

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let known = self.0.lock();
        let gauge = MetricType::Gauge;
        let help = "1 for each condition of a ring that says that something is wrong or under way";
        let mut family = encoder.encode_descriptor("ring_condition", help, None, gauge)?;
        let conditions = known.rings.iter().flat_map(|(ring, series)| {
            series.conditions.iter().map(move |said| (ring.as_str(), said))
        });
        for (ring, (kind, status, reason)) in conditions {
            let labels = [
                ("ring", ring),
                ("type", kind.as_str()),
                ("status", status.as_str()),
                ("reason", reason.as_str()),
            ];
            family.encode_family(&labels)?.encode_gauge(&1_i64)?;
        }
        for (name, help, value) in TIMES {
            let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), gauge)?;
            for (ring, series) in &known.rings {
                if let Some(value) = value(series) {
                    family.encode_family(&[("ring", ring.as_str())])?.encode_gauge(&value.get())?;
                }
            }
        }
        let help = "When the first exclusion of an object ends";
        let unit = Some(&Unit::Seconds);
        let mut family =
            encoder.encode_descriptor("exclusion_expiry_timestamp", help, unit, gauge)?;
        let of_rings = known.rings.iter().filter_map(|(ring, series)| {
            Some(("SigningKeyRing", ring.as_str(), series.exclusion_ends?.get()))
        });
        let of_lists =
            known.lists.iter().map(|(list, end)| ("ImageExclusionList", list.as_str(), *end));
        for (kind, name, end) in of_rings.chain(of_lists) {
            family.encode_family(&[("kind", kind), ("name", name)])?.encode_gauge(&end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn text(table: &Arc<Table>) -> String {
        let mut registry = Registry::with_prefix("signingkeyring");
        registry.register_collector(Box::new(Arc::clone(table)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn the_series_of_a_ring_go_with_it() {
        let table = Arc::<Table>::default();
        let ring = RingSeries {
            next_rotation: NonZeroI64::new(20),
            period: NonZeroI64::new(3600),
            activated: NonZeroI64::new(10),
            exclusion_ends: NonZeroI64::new(30),
            ..RingSeries::stalled(Reason::KeyMaterialLost)
        };
        assert_eq!(table.note("shop", Some(ring)), None);
        for line in [
            r#"signingkeyring_ring_condition{ring="shop",type="Stalled",status="True",reason="KeyMaterialLost"} 1"#,
            r#"signingkeyring_ring_next_rotation_timestamp_seconds{ring="shop"} 20"#,
            r#"signingkeyring_ring_rotation_period_seconds{ring="shop"} 3600"#,
            r#"signingkeyring_ring_key_activated_timestamp_seconds{ring="shop"} 10"#,
            r#"signingkeyring_exclusion_expiry_timestamp_seconds{kind="SigningKeyRing",name="shop"} 30"#,
        ] {
            assert!(text(&table).contains(line), "{line}\n{}", text(&table));
        }
        let well = RingSeries {
            state: "ready",
            conditions: Box::default(),
            ..RingSeries::stalled(Reason::Available)
        };
        assert_eq!(table.note("shop", Some(well)), Some("stalled"));
        assert!(!text(&table).contains("shop"), "{}", text(&table));
        assert_eq!(table.note("shop", None), Some("ready"));
        assert_eq!(table.note("shop", None), None);
    }

    #[test]
    fn the_first_end_of_a_list_is_shown_while_it_is_there() {
        let table = Arc::<Table>::default();
        table.lists_end([("gone", 20), ("gone", 10), ("stays", 30)].into_iter());
        let series = "signingkeyring_exclusion_expiry_timestamp_seconds";
        let of =
            |name, end| format!("{series}{{kind=\"ImageExclusionList\",name=\"{name}\"}} {end}");
        assert!(text(&table).contains(&of("gone", 10)) && text(&table).contains(&of("stays", 30)));
        table.lists_end([("stays", 30)].into_iter());
        assert!(!text(&table).contains("gone"), "{}", text(&table));
    }
}
