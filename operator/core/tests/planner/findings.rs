//! What executing a plan brought to light is reported, and goes on from there.

use signingkeyring_core::{
    condition::{Kind, Reason, Status},
    pass,
    report::Report,
    snapshot::{Finding, Import, ImportFound, PipelineFound, Snapshot},
};

use crate::{
    cases::settled,
    world::{World, pipeline},
};

fn learned(mut snapshot: Snapshot, finding: Finding) -> (Snapshot, Report) {
    snapshot.learn(finding);
    let report = pass::report(&snapshot);
    (snapshot, report)
}

fn reason(report: &Report, kind: Kind) -> Option<Reason> {
    report.conditions.iter().find(|c| c.kind == kind).map(|c| c.reason)
}

#[test]
fn a_pipeline_that_could_not_be_written_is_named() {
    let snapshot = settled().snapshot().unwrap();
    assert_eq!(reason(&pass::report(&snapshot), Kind::Ready), Some(Reason::Available));
    for (found, expected) in [
        (PipelineFound::Forbidden, Reason::AccessNotGranted),
        (PipelineFound::Failed("quota".to_owned()), Reason::SecretFailed),
    ] {
        let (_, report) = learned(snapshot.clone(), Finding::Pipeline(pipeline(1), found));
        assert_eq!(reason(&report, Kind::PipelinesPublished), Some(expected));
        assert_eq!(reason(&report, Kind::Ready), Some(expected));
        assert_eq!(report.pipelines[0].reason, expected);
        assert!(!report.keeps_versions, "the ledger is what it was");
    }
}

#[test]
fn a_ledger_that_turned_out_to_be_none_stalls_the_ring() {
    let snapshot = settled().snapshot().unwrap();
    for (finding, expected) in [
        (Finding::LedgerDamaged("a key is missing".to_owned()), Reason::KeyMaterialLost),
        (Finding::LedgerForeign, Reason::SecretConflict),
    ] {
        let (snapshot, report) = learned(snapshot.clone(), finding);
        assert_eq!(reason(&report, Kind::KeysAvailable), Some(expected));
        assert_eq!(reason(&report, Kind::Stalled), Some(expected));
        assert!(report.keeps_versions, "what the status says is evidence");
        assert_eq!(pass::plan(&snapshot).actions, [], "nothing is made of it");
    }
}

#[test]
fn a_key_pair_that_cannot_be_taken_over_stalls_the_ring() {
    let mut world = World::new();
    world.import = Some(ImportFound::Absent);
    assert!(world.settle());
    let mut snapshot = world.snapshot().unwrap();
    snapshot.import = Some(Import { from: pipeline(1), found: ImportFound::Present });
    assert_ne!(pass::plan(&snapshot).actions, []);
    let finding = Finding::ImportFailed("it has no entry cosign.key".to_owned());
    let (snapshot, report) = learned(snapshot, finding);
    let stalled = report.conditions.iter().find(|c| c.kind == Kind::Stalled).unwrap();
    assert_eq!(stalled.reason, Reason::ImportFailed);
    assert!(stalled.message.contains("it has no entry cosign.key"), "{}", stalled.message);
    assert_eq!(pass::plan(&snapshot).actions, [], "none is minted in its place");
}

#[test]
fn a_pass_that_failed_is_tried_again_and_says_so() {
    let (_, report) = learned(settled().snapshot().unwrap(), Finding::Trouble("no".to_owned()));
    let reconciling = report.conditions.iter().find(|c| c.kind == Kind::Reconciling).unwrap();
    assert_eq!((reconciling.status, reconciling.reason), (Status::True, Reason::Retrying));
    assert_eq!(reconciling.message, "no; it is tried again");
}
