//! The alerts fire when they should, say what they should, and have a page; the dashboard is
//! one that Grafana reads, and asks for what the operator shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const RULES: &str = include_str!("../../../manifests/chart/files/alerts.yaml");
const SERIES: &str = include_str!("alerts.test.yaml");
const DASHBOARD: &str = include_str!("../../../manifests/chart/files/dashboard.json");

/// Where the pages are on the web.
const PAGES: &str = "https://github.com/signing-odj/signingkeyring/blob/main/docs/runbooks/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn promtool(arguments: &[&str]) -> String {
    let program = root().join("target/cluster/bin/promtool");
    assert!(program.is_file(), "promtool is not there: run `make cluster-tools` first");
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}

fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap()
}

#[test]
fn they_fire_for_the_series_that_are_meant_and_no_others() {
    let said = promtool(&["test", "rules", "operator/tests/alerting/alerts.test.yaml"]);
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn each_is_tested_with_what_it_says() {
    let tests: Value = serde_saphyr::from_str(SERIES).unwrap();
    let tests = tests["tests"].as_array().unwrap().iter();
    let cases = tests.filter_map(|test| test["alert_rule_test"].as_array()).flatten();
    let fires = cases.filter(|case| !case["exp_alerts"].as_array().unwrap().is_empty());
    let tested: BTreeSet<&str> = fires.filter_map(|case| case["alertname"].as_str()).collect();
    let alerts = alerts();
    assert_eq!(tested, alerts.iter().map(name).collect());
}

#[test]
fn each_has_a_severity_names_what_it_is_about_and_has_a_page() {
    let index = std::fs::read_to_string(root().join("docs/runbooks/README.md")).unwrap();
    let mut pages = BTreeSet::new();
    for alert in &alerts() {
        let (name, annotations) = (name(alert), &alert["annotations"]);
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        let summary = annotations["summary"].as_str().unwrap();
        let by_ring = alert["expr"].as_str().unwrap().contains("by (ring");
        assert_eq!(by_ring, summary.contains("{{ $labels.ring }}"), "{name}: {summary}");
        let page = annotations["runbook_url"].as_str().unwrap();
        assert_eq!(page, format!("{PAGES}{name}.md"));
        let text = std::fs::read_to_string(root().join(format!("docs/runbooks/{name}.md")));
        let text = text.unwrap_or_else(|error| panic!("{name} has no page: {error}"));
        for part in [&format!("# {name}\n"), "## What it means", "## What to do"] {
            assert!(text.contains(part), "{name}: no {part:?}");
        }
        assert!(index.contains(&format!("({name}.md)")), "{name} is not in the list of pages");
        pages.insert(format!("{name}.md"));
    }
    pages.insert("README.md".to_owned());
    let there = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let there: BTreeSet<String> =
        there.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, pages, "a page without an alert");
}

#[test]
fn the_dashboard_is_one_and_its_panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert_eq!(dashboard["uid"], "signingkeyring");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(["timeseries", "table", "stat"].contains(&panel["type"].as_str().unwrap()));
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|k| panel["gridPos"][k].as_u64().unwrap());
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another one");
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert!(target["expr"].as_str().unwrap().contains("signingkeyring_"), "{title}");
        }
    }
}
