//! Turns: a test that has the cluster and the operator for itself.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use signingkeyring_e2e_testbed::kind::Kind;

use crate::common::{QUICK, Shared, leave_out, run, start_operator};

static TURN: Mutex<()> = Mutex::new(());

/// Runs a test that needs the cluster and the operator for itself.
pub fn in_turn(test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    // A test that failed is no reason for the next not to run.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |shared| {
        if shared.operator.lock().await.is_none() {
            start(shared, &[]).await?;
        }
        shared.cluster.start_again("kyverno").await?;
        test(shared).await
    });
}

/// The same of a test of what only one kind of policy has.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub fn in_turn_only(kind: Kind, why: &str, test: impl AsyncFnOnce(&'static Shared) -> Result<()>) {
    match Kind::under_test() == kind {
        true => in_turn(test),
        false => leave_out(kind, why),
    }
}

/// Starts the operator with more settings.
pub async fn start(shared: &Shared, more: &[&str]) -> Result<()> {
    let arguments: Vec<&str> = QUICK.iter().chain(more).copied().collect();
    let operator = start_operator(&shared.world, &arguments).await?;
    *shared.operator.lock().await = Some(operator);
    Ok(())
}

/// Ends the operator as a crash would.
pub async fn kill(shared: &Shared) -> Result<()> {
    match shared.operator.lock().await.take() {
        Some(operator) => operator.kill().await,
        None => Ok(()),
    }
}

/// What the operator's `/metrics` shows.
#[allow(dead_code, reason = "not every binary that shares this has such a test")]
pub async fn metrics(shared: &Shared) -> Result<String> {
    let operator = shared.operator.lock().await;
    operator.as_ref().context("the operator runs")?.metrics().await
}
