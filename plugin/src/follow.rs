//! Rings as they change.

use std::{collections::BTreeMap, pin::Pin};

use futures::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};

use crate::{
    cluster::{Cluster, FoundRing},
    error::{Error, chain, is_code},
};

type Events = Pin<Box<dyn Stream<Item = Result<Event<FoundRing>, watcher::Error>> + Send>>;

/// What came next.
pub enum Next {
    /// The rings are not as they were.
    Changed,
    /// Something went wrong, and is tried again.
    Trouble(String),
}

/// One ring or all of them, and what comes of them.
pub struct Followed {
    events: Events,
    /// Those that are there, by name.
    pub rings: BTreeMap<String, FoundRing>,
    /// Those of a list that has yet to end.
    listed: BTreeMap<String, FoundRing>,
    /// They were listed once: who could do that is not turned away for good by one refusal.
    was_listed: bool,
}

impl Followed {
    /// Begins to follow one ring, or all.
    pub fn begin(cluster: &Cluster, ring: Option<&str>) -> Self {
        let api: Api<FoundRing> = Api::all(cluster.client.clone());
        let config = match ring {
            Some(ring) => watcher::Config::default().fields(&format!("metadata.name={ring}")),
            None => watcher::Config::default(),
        };
        Self {
            events: Box::pin(watcher(api, config).default_backoff()),
            rings: BTreeMap::new(),
            listed: BTreeMap::new(),
            was_listed: false,
        }
    }

    /// Waits until something has changed, or goes wrong.
    ///
    /// # Errors
    /// If whoever calls may not list or watch them: trying again would help nobody. Who could
    /// once is not turned away.
    pub async fn next(&mut self) -> Result<Next, Error> {
        loop {
            // The stream never ends: it begins anew after each failure.
            let Some(event) = self.events.next().await else {
                return std::future::pending().await;
            };
            match event {
                Ok(Event::Init) => self.listed.clear(),
                Ok(Event::InitApply(ring)) => {
                    self.listed.insert(ring.name_any(), ring);
                }
                Ok(Event::InitDone) => {
                    self.rings = std::mem::take(&mut self.listed);
                    self.was_listed = true;
                    return Ok(Next::Changed);
                }
                Ok(Event::Apply(ring)) => {
                    self.rings.insert(ring.name_any(), ring);
                    return Ok(Next::Changed);
                }
                Ok(Event::Delete(ring)) => {
                    self.rings.remove(&ring.name_any());
                    return Ok(Next::Changed);
                }
                Err(
                    watcher::Error::InitialListFailed(error)
                    | watcher::Error::WatchStartFailed(error),
                ) if is_code(&error, 403) && !self.was_listed => {
                    return Err(Error::api("following rings", error));
                }
                Err(error) => return Ok(Next::Trouble(chain(&error))),
            }
        }
    }
}
