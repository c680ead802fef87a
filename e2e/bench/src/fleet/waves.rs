//! Many rings that want something at once: to be born, to rotate, and some of them to
//! revoke a key while all rotate.

use std::{
    path::PathBuf,
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use signingkeyring_crds::SigningKeyRing;
use tokio::time::sleep;

use super::{
    Fleet, SEALINGS,
    follow::{Followed, follow, is_true},
    urgent::{Revocations, Urgent},
};
use crate::{
    asked::Quantiles, bed::Arrangement, ledgers::PublicKey, process::Cpu, requests::Requests,
};

/// So long after each other keys are revoked that are not revoked at once.
const PAUSE: Duration = Duration::from_millis(500);

/// After so long nothing of a wave is in memory any more.
const OVER: Duration = Duration::from_secs(10);

/// What a wave came to.
#[derive(Clone, Debug, Serialize)]
pub struct Wave {
    /// What all wanted.
    pub wanted: &'static str,
    /// What the cluster had.
    pub arrangement: Arrangement,
    /// How many rings were in it.
    pub rings: usize,
    /// How long sealing their keys takes on all cores if nothing else has to be done,
    /// in seconds; nothing where none are sealed.
    pub floor: Option<f64>,
    /// How long all of it took, in seconds; nothing if it was not over in time.
    pub took: Option<f64>,
    /// When half of them and when 99 of 100 were through, in ms.
    pub through: Quantiles,
    /// When each was, in seconds.
    pub times: Vec<f64>,
    /// How long the operator was on a core, in seconds.
    pub cpu: f64,
    /// How long the others were, while it went on.
    pub others: Cpu,
    /// The operator's peak memory while it went on, in MiB.
    pub peak: u64,
    /// Its memory when it was over.
    pub rest: u64,
    /// What is urgent among it.
    pub urgent: Option<Urgent>,
    /// How many requests there were for each ring, by verb and resource.
    pub requests: Vec<(String, f64)>,
    /// How often a status said of Kyverno what was not so.
    pub untrue: usize,
}

impl Wave {
    /// As much memory as the operator may take, in MiB: that of rest, 32 MiB for each key that
    /// is sealed, and 32 MB.
    #[must_use]
    pub fn most_memory(&self) -> u64 {
        self.rest + u64::from(SEALINGS) * 32 + 30
    }
}

/// Measures births, rotations and revocations.
///
/// # Errors
/// If something does not run.
pub async fn measure(
    arrangement: Arrangement,
    revoked: usize,
    program: PathBuf,
    patience: Duration,
) -> Result<Vec<Wave>> {
    let mut fleet = Fleet::new(arrangement, program).await?;
    fleet.create_namespaces().await?;
    fleet.start().await?;
    let all = arrangement.rings;
    let floor = Some(floor(all)?);

    let born = |ring: &SigningKeyRing| is_true(ring, "Ready");
    let births = wave(&fleet, "births", all, floor, patience, born, fleet.create_rings()).await?;

    let rotate =
        |token: &str| json!({"metadata": {"annotations": {"signing.odj.cloud/rotate": token}}});
    let signs = |version: u32| {
        move |ring: &SigningKeyRing| {
            let current = ring.status.as_ref().and_then(|status| status.current_version);
            current >= Some(version) && is_true(ring, "Ready")
        }
    };
    let second = rotate("second");
    let ask = fleet.patch(0..all, &second);
    let rotations = wave(&fleet, "rotations", all, floor, patience, signs(2), ask).await?;

    // Those of the middle: neither the first nor the last to be asked.
    let first = (all - revoked) / 2;
    let revocations = Revocations::of(&fleet, first..first + revoked, 1).await?;
    let what = "revocations at once, while all rotate";
    let third = rotate("third");
    let ask = while_all_rotate(&fleet, &third, &revocations, revocations.ask(), patience);
    let at_once = revoke(&fleet, what, &revocations, patience, ask).await?;
    follow(&fleet.client, all, patience, Instant::now(), signs(3)).await?;

    // Those that come last, so that the most of them have yet to rotate.
    let revocations = Revocations::of(&fleet, all - revoked..all, 2).await?;
    let what = "revocations one after the other, while all rotate";
    let fourth = rotate("fourth");
    let asked = revocations.ask_each(PAUSE);
    let ask = while_all_rotate(&fleet, &fourth, &revocations, asked, patience);
    let one_by_one = revoke(&fleet, what, &revocations, patience, ask).await?;
    fleet.stop().await?;
    Ok(vec![births, rotations, at_once, one_by_one])
}

/// Has all rings rotate, then asks for the revocations and waits until they are stored.
async fn while_all_rotate(
    fleet: &Fleet,
    rotation: &Value,
    revocations: &Revocations<'_>,
    ask: impl Future<Output = Result<()>>,
    patience: Duration,
) -> Result<()> {
    let asked = async {
        fleet.patch(0..fleet.arrangement.rings, rotation).await?;
        ask.await
    };
    tokio::try_join!(asked, revocations.stored(patience))?;
    Ok(())
}

/// A wave of revocations, with how long each took.
async fn revoke(
    fleet: &Fleet,
    what: &'static str,
    revocations: &Revocations<'_>,
    patience: Duration,
    ask: impl Future<Output = Result<()>>,
) -> Result<Wave> {
    let applied = |ring: &SigningKeyRing| revocations.is_applied(ring);
    let wave = wave(fleet, what, revocations.count(), None, patience, applied, ask).await?;
    Ok(Wave { urgent: Some(revocations.times()), ..wave })
}

async fn wave(
    fleet: &Fleet,
    wanted: &'static str,
    rings: usize,
    floor: Option<f64>,
    patience: Duration,
    reached: impl Fn(&SigningKeyRing) -> bool,
    ask: impl Future<Output = Result<()>>,
) -> Result<Wave> {
    let process = fleet.process()?;
    let programs = fleet.programs()?;
    let (before, cpu) = (Requests::now(&fleet.client).await?, process.cpu()?);
    let others = programs.cpu()?;
    process.forget_peak()?;
    let start = Instant::now();
    let (asked, followed) =
        tokio::join!(ask, follow(&fleet.client, rings, patience, start, reached));
    asked?;
    let Followed { times, untrue, missing, .. } = followed?;
    let (cpu, peak) = ((process.cpu()? - cpu).as_secs_f64(), process.peak()?);
    let others = programs.cpu()?.since(others);
    let requests = Requests::now(&fleet.client).await?.since(&before);
    sleep(OVER).await;
    let each = |count: u64| as_float(count) / as_float(rings as u64);
    Ok(Wave {
        wanted,
        arrangement: fleet.arrangement,
        rings,
        floor,
        took: times.last().filter(|_| missing == 0).map(Duration::as_secs_f64),
        through: Quantiles::of(times.clone()),
        times: times.iter().map(Duration::as_secs_f64).collect(),
        cpu,
        others,
        peak,
        rest: process.resident()?,
        urgent: None,
        requests: requests.iter().map(|(what, count)| (what.to_owned(), each(count))).collect(),
        untrue,
    })
}

/// How long it takes to generate and seal keys for so many rings as cosign does, on all
/// cores and with nothing else to do, in seconds.
fn floor(rings: usize) -> Result<f64> {
    /// cosign's costs: go-securesystemslib's `encrypted`.
    const COSTS: (u8, u32, u32) = (15, 8, 1);
    let cores = available_parallelism()?.get();
    let (log_n, r, p) = COSTS;
    let costs = scrypt::Params::new(log_n, r, p)?;
    let seal = || -> Result<()> {
        for _ in 0..SAMPLE {
            PublicKey::random()?;
            let mut key = [0; 32];
            scrypt::scrypt(b"password", b"salt", &costs, &mut key)?;
        }
        Ok(())
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(seal)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().ok().context("a thread panicked").flatten())
    })?;
    let sealed = as_float((SAMPLE * cores) as u64);
    Ok(start.elapsed().as_secs_f64() * as_float(rings as u64) / sealed)
}

/// How many each core seals to learn how long all take.
const SAMPLE: usize = 30;

fn as_float(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
