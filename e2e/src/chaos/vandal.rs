//! Edits and deletes by hand what the operator wrote, and sets its clock.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::task::JoinSet;

use super::{
    Run,
    dice::{Deck, Dice},
    journal::Wrong,
    policies::{self, Edit},
    secrets,
};

/// What somebody writes where it does not belong.
pub const GRAFFITI: &str = "chaos-was-here";

#[derive(Clone, Copy, Debug)]
enum Act {
    Policy(Edit),
    DeleteSecret,
    EditSecret,
    LoseLedger,
    Clock,
}

/// Seconds by which the clock is set wrong.
const OFFSETS: [i64; 8] = [0, -5, 30, -600, 3000, -7200, 7200, 93_600];

/// Strikes until the breaking is to end.
///
/// # Errors
/// None; what cannot be broken at the moment is left.
pub async fn strike(run: Arc<Run>) -> Result<()> {
    let mut dice = Dice::new(run.options.seed, "vandal");
    let kinds = [
        (Act::Policy(Edit::Delete), 2),
        (Act::Policy(Edit::DropRule), 1),
        (Act::Policy(Edit::ExcludeAll), 1),
        (Act::Policy(Edit::DropKey), 1),
        (Act::Policy(Edit::Audit), 1),
        (Act::Policy(Edit::Label), 1),
        (Act::DeleteSecret, 6),
        (Act::EditSecret, 6),
        (Act::LoseLedger, 3),
        (Act::Clock, 5),
    ];
    let mut deck = Deck::new(&kinds, Dice::new(run.options.seed, "deck of the vandal"));
    let mut acts = JoinSet::new();
    while !run.is_over() {
        run.rest(Duration::from_millis(dice.between(500, 2500))).await;
        let Some(act) = deck.draw().filter(|_| !run.is_over()) else { break };
        let (run, dice) = (Arc::clone(&run), Dice::new(dice.between(0, u64::MAX), "act"));
        // One policy that waits to be restored does not hold up the rest.
        acts.spawn(async move {
            if let Err(error) = commit(&run, act, dice).await {
                run.journal.note(&format!("{act:?} did not work: {error:#}"));
            }
        });
        while acts.try_join_next().is_some() {}
    }
    while acts.join_next().await.is_some() {}
    Ok(())
}

async fn commit(run: &Run, act: Act, mut dice: Dice) -> Result<()> {
    let Some(ring) = dice.pick(&run.rings) else { return Ok(()) };
    match act {
        Act::Policy(edit) => {
            let policy = run.facts.lock().rings.get(ring).map(|ring| ring.ledger.policy.clone());
            policies::edit(run, &policy.unwrap_or_default(), edit).await
        }
        Act::DeleteSecret => secrets::delete(run, ring).await,
        Act::EditSecret => secrets::edit(run, ring, &mut dice).await,
        Act::LoseLedger => {
            let pause = Duration::from_millis(dice.between(200, 4000));
            let result = secrets::lose_ledger(run, ring, pause).await;
            if let Err(error) = &result
                && error.to_string().contains("in the place of")
            {
                run.journal.wrong(Wrong::LostKey, &error.to_string());
            }
            result
        }
        Act::Clock => {
            let offset = dice.pick(&OFFSETS).copied().unwrap_or(0);
            for ring in run.facts.lock().rings.values_mut().filter(|ring| ring.scheduled) {
                ring.allowed += 1;
            }
            run.set_clock(offset)?;
            run.journal.fault("clock set", &format!("wrong by {offset} s"));
            Ok(())
        }
    }
}
