//! The tables and plots of fleets.

use std::path::Path;

use anyhow::Result;
use signingkeyring_e2e_testbed::kind::Kind;

use super::{rest::Rest, waves::Wave};
use crate::plot::{Line, Scale, draw};

/// What rings at rest take, as Markdown, with the limits that it is held against.
#[must_use]
pub fn rest(rows: &[Rest]) -> String {
    let mut text = String::from(
        "Rings at rest, restored from ledgers of ten rotations, with two pipelines and two \
         namespaces each\n\n\
         | kind | rings | per policy | settled, s (≤ 300) | statuses written | untrue (0) | \
         operator, MiB (< 100) | peak | CPU, % (< 2) | requests a minute | writes | \
         restart, s | writes (0) | MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let settled = row.settled.map_or_else(
            || format!("no: {} are not ready", row.missing),
            |settled| format!("{settled:.0}"),
        );
        let cpu = row.cpu.map_or_else(|| "no rest".to_owned(), |cpu| format!("{cpu:.1}"));
        text += &format!(
            "| {} | {} | {} | {settled} | {} | {} | {} | {} | {cpu} | {} | {} | {:.1} | {} | {} |\n",
            row.arrangement.kind,
            row.arrangement.rings,
            row.arrangement.pack,
            row.statuses,
            row.untrue,
            row.resident,
            row.peak,
            row.requests,
            row.writes,
            row.restart,
            row.restart_writes,
            row.restart_resident,
        );
    }
    text
}

/// What they cost the others, as Markdown.
#[must_use]
pub fn others(rows: &[Rest]) -> String {
    let mut text = String::from(
        "What the cluster and its pods pay\n\n\
         | kind | rings | per policy | enrolled, p50 ms | p99 | not enrolled, p50 ms | p99 | \
         kube-apiserver, MiB | Kyverno, MiB | validating webhooks, bytes | mutating |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let pods = row.admission.map_or_else(
            || "- | - | - | -".to_owned(),
            |pods| {
                let [a, b] = [pods.enrolled, pods.not_enrolled];
                format!("{:.1} | {:.1} | {:.1} | {:.1}", a.p50, a.p99, b.p50, b.p99)
            },
        );
        text += &format!(
            "| {} | {} | {} | {pods} | {} | {} | {} | {} |\n",
            row.arrangement.kind,
            row.arrangement.rings,
            row.arrangement.pack,
            row.memory.api_server,
            row.memory.kyverno,
            row.configurations.validating,
            row.configurations.mutating,
        );
    }
    text
}

/// What waves come to, as Markdown.
#[must_use]
pub fn waves(waves: &[Wave]) -> String {
    let mut text = String::from(
        "Many rings at once\n\n\
         | what | kind | rings | took, s | of the floor (≤ 2) | p50, s | of the whole (≤ 0.6) | \
         p99, s | operator's CPU, s | peak, MiB (≤ at rest + 32 a sealing + 32 MB) | requests a ring (≤ 12) | untrue (0) |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for wave in waves {
        let or_none = |number: Option<f64>, unit: &str| {
            number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}{unit}"))
        };
        let of_floor = wave.took.zip(wave.floor).map(|(took, floor)| took / floor);
        let half = wave.through.p50 / 1000.0;
        let of_whole = wave.took.map(|took| half / took);
        let requests: f64 = wave.requests.iter().map(|(_, count)| count).sum();
        text += &format!(
            "| {} | {} | {} | {} | {} | {half:.1} | {} | {:.1} | {:.0} | {} (≤ {}) | {requests:.1} | {} |\n",
            wave.wanted,
            wave.arrangement.kind,
            wave.rings,
            or_none(wave.took, ""),
            or_none(of_floor, "×"),
            or_none(of_whole, "×"),
            wave.through.p99 / 1000.0,
            wave.cpu,
            wave.peak,
            wave.most_memory(),
            wave.untrue,
        );
    }
    text += "\nWho was on a core, s\n\n\
             | what | kind | operator | kube-apiserver | etcd | Kyverno |\n\
             |---|---|---|---|---|---|\n";
    for wave in waves {
        let Wave { wanted, arrangement, cpu, others, .. } = wave;
        text += &format!(
            "| {wanted} | {} | {cpu:.1} | {:.1} | {:.1} | {:.1} |\n",
            arrangement.kind, others.api_server, others.etcd, others.kyverno,
        );
    }
    text += "\nKeys that are revoked while all rings rotate\n\n\
             | what | kind | rings | of these | policy stored, p50 ms | p99 (≤ 1000) | \
             Kyverno answered, p50 ms | p99 (≤ 3000) |\n\
             |---|---|---|---|---|---|---|---|\n";
    for wave in waves {
        let Some(urgent) = wave.urgent else { continue };
        text += &format!(
            "| {} | {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            wave.wanted,
            wave.arrangement.kind,
            wave.arrangement.rings,
            wave.rings,
            urgent.stored.p50,
            urgent.stored.p99,
            urgent.answered.p50,
            urgent.answered.p99,
        );
    }
    text += "\nRequests for each ring\n\n| what | kind | verb and resource | a ring |\n|---|---|---|---|\n";
    for wave in waves {
        for (what, count) in &wave.requests {
            let Wave { wanted, arrangement, .. } = wave;
            text += &format!("| {wanted} | {} | {what} | {count:.2} |\n", arrangement.kind);
        }
    }
    text
}

/// Draws what varies with the number of rings, and when each ring of a wave was
/// through, into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn plots(folder: &Path, rows: &[Rest], waves: &[Wave]) -> Result<()> {
    let by_rings = |of: &dyn Fn(&Rest) -> Option<f64>| {
        let mut lines: Vec<Line> = Vec::new();
        for row in rows {
            let Some(value) = of(row) else { continue };
            let each = if row.arrangement.pack == 1 { ", one ring a policy" } else { "" };
            let name = format!("{}{each}", row.arrangement.kind);
            let point = (as_float(row.arrangement.rings), value);
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name, points: vec![point] }),
            }
        }
        lines
    };
    let plot = |file: &str, title: &str, unit: &str, lines: &[Line]| {
        if lines.iter().all(|line| line.points.len() < 2) {
            return Ok(());
        }
        draw(&folder.join(file), title, ["rings", unit], Scale::Logarithmic, lines)
    };
    let memory = by_rings(&|row| Some(as_float(usize::try_from(row.resident).ok()?)));
    plot("memory.svg", "The operator at rest", "MiB", &memory)?;
    let enrolled = by_rings(&|row| Some(row.admission?.enrolled.p50));
    plot("enrolled.svg", "A pod of a ring's namespace, p50", "ms", &enrolled)?;
    let others = by_rings(&|row| Some(row.admission?.not_enrolled.p50));
    plot("not-enrolled.svg", "A pod of a namespace of no ring, p50", "ms", &others)?;
    for kind in Kind::ALL {
        let of_kind = waves.iter().filter(|wave| wave.arrangement.kind == kind);
        let lines: Vec<Line> = of_kind
            .filter(|wave| !wave.times.is_empty())
            .map(|wave| Line {
                name: wave.wanted.to_owned(),
                points: wave.times.iter().copied().zip((1..).map(as_float)).collect(),
            })
            .collect();
        if !lines.is_empty() {
            let path = folder.join(format!("waves-{}.svg", kind.resource()));
            let title = format!("Rings that are through, {kind}");
            draw(&path, &title, ["seconds", "rings"], Scale::Linear, &lines)?;
        }
    }
    Ok(())
}

fn as_float(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
