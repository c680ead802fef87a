//! Pods that are asked about in several clusters in turn, one at a time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use serde::Serialize;
use signingkeyring_e2e_testbed::images::{Verdict, admit};

use crate::images::Images;

/// What is asked before anything counts: connections, programs that were compiled.
const WARM_UP: usize = 10;

/// How long something took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of all took no longer.
    pub p50: f64,
    /// Of a hundred one took longer.
    pub p99: f64,
}

impl Quantiles {
    /// Those of some times; of none both are 0.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (times.len() * hundredths).div_ceil(100);
            let time = times.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            time.as_secs_f64() * 1000.0
        };
        Self { p50: at(50), p99: at(99) }
    }
}

/// What a signed pod took in a cluster.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Admission {
    /// In a ring's namespace.
    pub enrolled: Quantiles,
    /// In one of no ring's.
    pub not_enrolled: Quantiles,
}

/// Where pods are asked about.
#[derive(Clone)]
pub struct Asked {
    /// The cluster's administrator.
    pub client: Client,
    /// The namespace of a ring that accepts what is asked about.
    pub enrolled: String,
    /// One that belongs to no ring.
    pub not_enrolled: String,
}

/// Asks for `rounds` pods in both namespaces of each cluster, of all clusters in turn.
///
/// # Errors
/// If one is not admitted.
pub async fn ask(beds: &[Asked], images: &Images, rounds: usize) -> Result<Vec<Admission>> {
    let mut times = vec![[Vec::with_capacity(rounds), Vec::with_capacity(rounds)]; beds.len()];
    for Asked { client, enrolled, not_enrolled } in beds {
        ensure_account(client, enrolled).await?;
        ensure_account(client, not_enrolled).await?;
    }
    let all = images.signed.iter().cycle().zip(0..WARM_UP + rounds);
    for (image, round) in all {
        for index in 0..beds.len() {
            // Nobody is always the first, or always after the same one: what was asked
            // before may still be at work.
            let index = if round % 2 == 0 { index } else { beds.len() - 1 - index };
            let index = (index + round / 2) % beds.len();
            let Asked { client, enrolled, not_enrolled } = &beds[index];
            for (namespace, times) in [enrolled, not_enrolled].into_iter().zip(&mut times[index]) {
                let time = time(client, namespace, image).await?;
                if round >= WARM_UP {
                    times.push(time);
                }
            }
        }
    }
    let admission = |[enrolled, not_enrolled]: [Vec<Duration>; 2]| Admission {
        enrolled: Quantiles::of(enrolled),
        not_enrolled: Quantiles::of(not_enrolled),
    };
    Ok(times.into_iter().map(admission).collect())
}

/// Sees to the ServiceAccount without which there is no pod: among so many namespaces the
/// controller manager may not have come to this one yet.
async fn ensure_account(client: &Client, namespace: &str) -> Result<()> {
    let name = Some("default".to_owned());
    let account = ServiceAccount {
        metadata: ObjectMeta { name, ..ObjectMeta::default() },
        ..Default::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    match accounts.create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => Ok(created.map(drop)?),
    }
}

async fn time(client: &Client, namespace: &str, image: &str) -> Result<Duration> {
    let start = Instant::now();
    let verdict = admit(client, namespace, &[image]).await?;
    ensure!(verdict == Verdict::Admitted, "{image} in {namespace}: {verdict:?}");
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_seen() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Quantiles::of(times), Quantiles { p50: 100.0, p99: 198.0 });
        let one = vec![Duration::from_millis(7)];
        assert_eq!(Quantiles::of(one), Quantiles { p50: 7.0, p99: 7.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }
}
