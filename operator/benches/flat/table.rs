//! What is printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{PACK, work::Work};

/// What was measured. Bytes and counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub rings: usize,
    pub at_start: u64,
    pub settled_s: f64,
    /// Passes over rings until then, and passes over policies.
    pub passes_of_start: [u64; 2],
    /// What was asked until then.
    pub start: BTreeMap<String, u64>,
    pub resident: u64,
    pub live: i64,
    pub peak_of_start: u64,
    pub resident_relisted: u64,
    pub live_relisted: i64,
    pub peak_of_relist: u64,
    pub idle: Work,
    /// Of a core.
    pub busy_at_rest: f64,
    pub ring_pass: Work,
    pub policy_pass: Work,
    pub birth: BTreeMap<String, u64>,
    pub rotation: BTreeMap<String, u64>,
}

/// What is compared, and how it is read.
type Figure = (&'static str, fn(&Row) -> f64);

/// What a pass does: the same on any machine.
pub const COUNTS: [Figure; 6] = [
    ("allocations of a ring's pass", |row| row.ring_pass.allocations),
    ("bytes of a ring's pass", |row| row.ring_pass.bytes),
    ("locks of a ring's pass", |row| row.ring_pass.locks),
    ("allocations of a policy's pass", |row| row.policy_pass.allocations),
    ("bytes of a policy's pass", |row| row.policy_pass.bytes),
    ("locks of a policy's pass", |row| row.policy_pass.locks),
];

/// How long it does so, in which the machine has a say.
const TIMES: [Figure; 4] = [
    ("time locks are held in a ring's pass", |row| row.ring_pass.held),
    ("the longest of these", |row| row.ring_pass.longest_hold),
    ("time locks are held in a policy's pass", |row| row.policy_pass.held),
    ("the longest of these", |row| row.policy_pass.longest_hold),
];

/// How many times as much it is with the last number of rings as with the first.
pub fn grown(rows: &[Row], figures: &[Figure]) -> Vec<(&'static str, f64)> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Vec::new() };
    figures.iter().map(|(what, of)| (*what, of(last) / of(first))).collect()
}

/// A column for each number of rings, and below it how much they differ.
pub fn print(rows: &[Row]) {
    let line = |what: &str, of: &dyn Fn(&Row) -> String| {
        let cells: Vec<String> = rows.iter().map(|row| format!("{:>12}", of(row))).collect();
        println!("{what:<46} {}", cells.join(" "));
    };
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let each = |count: u64, row: &Row| format!("{:.2}", count as f64 / row.rings as f64);
    line("rings", &|row| row.rings.to_string());
    line("MB resident before anything was listed", &|row| mb(row.at_start));
    line("MB resident at rest", &|row| mb(row.resident));
    line("MB allocated at rest", &|row| mb(row.live.unsigned_abs()));
    line("bytes allocated a ring", &|row| format!("{:.0}", row.live as f64 / row.rings as f64));
    line("MB resident at most until then", &|row| mb(row.peak_of_start));
    line("MB resident after a forced relist", &|row| mb(row.resident_relisted));
    line("MB allocated after a forced relist", &|row| mb(row.live_relisted.unsigned_abs()));
    line("MB resident at most in the relist", &|row| mb(row.peak_of_relist));
    line("percent of a core at rest", &|row| format!("{:.2}", row.busy_at_rest * 100.0));
    line("seconds until at rest", &|row| format!("{:.0}", row.settled_s));
    for (what, of) in [
        ("rest for a second", (|row| row.idle) as fn(&Row) -> Work),
        ("a ring's pass", |row| row.ring_pass),
        ("a policy's pass", |row| row.policy_pass),
    ] {
        line(&format!("allocations of {what}"), &|row| format!("{:.0}", of(row).allocations));
        line(&format!("kB allocated by {what}"), &|row| format!("{:.1}", of(row).bytes / 1e3));
        line(&format!("microseconds of a core, {what}"), &|row| {
            format!("{:.0}", of(row).microseconds)
        });
        line(&format!("locks taken by {what}"), &|row| format!("{:.0}", of(row).locks));
        line(&format!("microseconds they are held, {what}"), &|row| format!("{:.0}", of(row).held));
        line("microseconds of the longest of these", &|row| format!("{:.0}", of(row).longest_hold));
    }
    line("passes over a ring until at rest", &|row| each(row.passes_of_start[0], row));
    line("passes over a policy until at rest", &|row| each(row.passes_of_start[1] * PACK, row));
    for (what, ratio) in [grown(rows, &COUNTS), grown(rows, &TIMES)].concat() {
        println!("{what}: {ratio:.2} times with {} rings", rows.last().map_or(0, |row| row.rings));
    }
    if let Some(row) = rows.last() {
        let all: Vec<String> = row
            .start
            .iter()
            .filter(|(_, count)| **count as usize * 10 > row.rings)
            .map(|(request, count)| format!("{} {request}", each(*count, row)))
            .collect();
        println!("a start, for each ring: {}", all.join(", "));
    }
    for (what, of) in [
        ("a birth", (|row| &row.birth) as fn(&Row) -> &BTreeMap<String, u64>),
        ("a rotation", |row| &row.rotation),
    ] {
        if let Some(row) = rows.last() {
            let all: Vec<String> =
                of(row).iter().map(|(request, count)| format!("{count} {request}")).collect();
            println!("{what}: {} requests: {}", of(row).values().sum::<u64>(), all.join(", "));
        }
    }
}
