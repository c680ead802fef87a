//! Edits and deletes by hand what the operator wrote, sets its clock, and takes
//! its rights away.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use signingkeyring_e2e_observer::invariant::Invariant;
use tokio::task::JoinSet;

use super::{
    policies::{self, Edit, Way},
    random::{Random, ShuffleBag},
    rights,
    run::Run,
    secrets::{self, LedgerLoss},
};

#[derive(Clone, Copy, Debug)]
enum Act {
    Policy(Edit, Way),
    DeleteSecret,
    EditSecret(secrets::Edit),
    LoseLedger,
    Clock,
    PolicyRights,
    PipelineRights,
}

/// Seconds by which the clock is set wrong.
const OFFSETS: [i64; 8] = [0, -5, 30, -600, 3000, -7200, 7200, 93_600];

/// Strikes until the breaking is to end.
///
/// # Errors
/// None; what cannot be broken at the moment is left.
pub async fn strike(run: Arc<Run>) -> Result<()> {
    let mut random = Random::new(run.options.seed, "tampering");
    let mut kinds = vec![
        (Act::Policy(Edit::Delete, Way::Replace), 2),
        (Act::Policy(Edit::DropRule, Way::Replace), 1),
        (Act::Policy(Edit::ExcludeAll, Way::Replace), 1),
        (Act::Policy(Edit::DropKey, Way::Replace), 1),
        (Act::Policy(Edit::Audit, Way::Replace), 1),
        (Act::Policy(Edit::Label, Way::Replace), 1),
        (Act::Policy(Edit::DropRule, Way::Apply), 1),
        (Act::Policy(Edit::ExcludeAll, Way::Apply), 1),
        (Act::Policy(Edit::DropKey, Way::Apply), 1),
        (Act::Policy(Edit::Same, Way::Apply), 2),
        (Act::Policy(Edit::DeletePin, Way::Replace), 1),
        (Act::DeleteSecret, 6),
        (Act::LoseLedger, 3),
        (Act::Clock, 5),
        (Act::PolicyRights, 2),
        (Act::PipelineRights, 3),
    ];
    kinds.extend(secrets::EDITS.map(|edit| (Act::EditSecret(edit), 1)));
    let mut bag = ShuffleBag::new(&kinds, Random::new(run.options.seed, "bag of tampering"));
    let mut acts = JoinSet::new();
    while !run.is_over() {
        run.rest(Duration::from_millis(random.between(500, 2500))).await;
        let Some(act) = bag.draw().filter(|_| !run.is_over()) else { break };
        let (run, random) = (Arc::clone(&run), Random::new(random.between(0, u64::MAX), "act"));
        // One policy that waits to be restored does not hold up the rest.
        acts.spawn(async move {
            if let Err(error) = commit(&run, act, random).await {
                run.journal.note(&format!("{act:?} did not work: {error:#}"));
            }
        });
        while acts.try_join_next().is_some() {}
    }
    while acts.join_next().await.is_some() {}
    Ok(())
}

async fn commit(run: &Run, act: Act, mut random: Random) -> Result<()> {
    let Some(ring) = random.pick(&run.rings) else { return Ok(()) };
    match act {
        Act::Policy(edit, way) => {
            let policy = {
                let known = run.facts.lock();
                known.rings.get(ring).and_then(|ring| ring.policy().map(str::to_owned))
            };
            policies::edit(run, &policy.context("no policy")?, edit, way).await
        }
        Act::DeleteSecret => secrets::delete(run, ring).await,
        Act::EditSecret(edit) => secrets::edit(run, ring, edit).await,
        Act::LoseLedger => {
            let pause = Duration::from_millis(random.between(200, 4000));
            if secrets::lose_ledger(run, ring, pause).await? == LedgerLoss::Replaced {
                let text = format!("a ledger was made in the place of the lost one of {ring}");
                run.journal.violated(Invariant::NoMintOverALoss, &text);
            }
            Ok(())
        }
        Act::PolicyRights => rights::on_policies(run, a_while(&mut random)).await,
        Act::PipelineRights => rights::on_pipeline(run, ring, a_while(&mut random)).await,
        Act::Clock => {
            let offset = random.pick(&OFFSETS).copied().unwrap_or(0);
            for ring in run.facts.lock().rings.values_mut().filter(|ring| ring.scheduled) {
                ring.allowed += 1;
            }
            run.set_clock(offset)?;
            run.journal.fault("clock set", &format!("wrong by {offset} s"));
            Ok(())
        }
    }
}

/// How long rights are away.
fn a_while(random: &mut Random) -> Duration {
    Duration::from_millis(random.between(5000, 15_000))
}
