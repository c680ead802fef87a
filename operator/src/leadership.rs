//! Which of several replicas works: the one that holds the Lease. A leader works until a
//! deadline that ends before anybody else may take the Lease, and each renewal moves that; so
//! it needs nobody to tell it that it is over. A write that was on its way by then is stopped
//! as every stale one is, by its resourceVersion.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use signingkeyring_core::names;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::{
    clock::Clock,
    error::{brief, is_code},
    settings::Settings,
};

mod record;

use record::Record;

/// So long after it asked for its last renewal a leader works: by less than the Lease lasts.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);

/// How often a leader renews it.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// How often the others look at it, and how soon what failed is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often letting go is tried, if a renewal was still on its way.
const TRIES_TO_RELEASE: usize = 3;

/// Whether this replica works, and until when for all that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    Standby,
    Until(Instant),
    /// There are no others.
    Unlimited,
}

impl Term {
    fn lasts(self, now: Instant) -> bool {
        match self {
            Self::Standby => false,
            Self::Until(deadline) => now < deadline,
            Self::Unlimited => true,
        }
    }
}

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    term: watch::Receiver<Term>,
    /// Whether the Lease was ever seen, or found not to be there.
    has_looked: Arc<AtomicBool>,
    /// Keeps that of one without others.
    _unlimited: Option<Arc<watch::Sender<Term>>>,
}

impl Leadership {
    /// That of a replica without others.
    pub(crate) fn unlimited() -> Self {
        let (sender, term) = watch::channel(Term::Unlimited);
        let has_looked = Arc::new(AtomicBool::new(true));
        Self { term, has_looked, _unlimited: Some(Arc::new(sender)) }
    }

    /// Whether this replica leads now.
    pub(crate) fn is_leader(&self) -> bool {
        self.term.borrow().lasts(Instant::now())
    }

    /// Whether it could lead if nobody else did, for all that is known: one that may not look
    /// at the Lease never does. That the API server is away later takes nothing back.
    pub(crate) fn can_be_leader(&self) -> bool {
        self.has_looked.load(Ordering::Relaxed)
    }

    /// Waits until it does.
    pub(crate) async fn begins(&self) {
        let mut term = self.term.clone();
        if term.wait_for(|term| term.lasts(Instant::now())).await.is_err() {
            // Nobody stands for election any more: the process ends.
            std::future::pending::<()>().await;
        }
    }

    /// Works as long as it leads; nothing if that is over first. No step of the work begins
    /// after that, even if this process was stopped in between and has yet to notice.
    pub(crate) async fn while_it_lasts<W: Future>(&self, work: W) -> Option<W::Output> {
        let (mut over, mut work) = (pin!(self.is_over()), pin!(work));
        poll_fn(|context| {
            if over.as_mut().poll(context).is_ready() || !self.is_leader() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    async fn is_over(&self) {
        let mut terms = self.term.clone();
        loop {
            let term = *terms.borrow_and_update();
            let deadline = async {
                match term {
                    Term::Until(deadline) => sleep_until(deadline).await,
                    Term::Standby | Term::Unlimited => std::future::pending().await,
                }
            };
            if !term.lasts(Instant::now()) {
                return;
            }
            tokio::select! {
                changed = terms.changed() => if changed.is_err() { return },
                () = deadline => {}
            }
        }
    }
}

/// A replica that stands for election.
#[derive(Debug)]
pub(crate) struct Election {
    leadership: Leadership,
    stop: oneshot::Sender<()>,
    campaign: JoinHandle<()>,
}

impl Election {
    /// Stands for election, in a task of its own: a long pass delays no renewal. Nothing is
    /// taken before this replica `has_listed` the cluster: the Lease would be held by somebody
    /// who does not work while another one could.
    ///
    /// # Errors
    /// If there is no randomness to be told from other replicas by.
    pub(crate) fn stand(
        client: Client,
        settings: &Settings,
        clock: Clock,
        has_listed: watch::Receiver<bool>,
    ) -> Result<Self, getrandom::Error> {
        // A container that is started again is another one, with nothing remembered.
        let replica = format!("{}_{:016x}", settings.replica, getrandom::u64()?);
        info!(replica, "standing for election");
        let api = Api::namespaced(client, &settings.namespace);
        let (sender, term) = watch::channel(Term::Standby);
        let (stop, stopped) = oneshot::channel();
        let has_looked = Arc::default();
        let leadership = Leadership { term, has_looked: Arc::clone(&has_looked), _unlimited: None };
        let record = None;
        let candidate =
            Candidate { api, replica, clock, record, has_listed, has_looked, term: sender };
        let campaign = tokio::spawn(candidate.run(stopped));
        Ok(Self { leadership, stop, campaign })
    }

    /// Whether this replica leads.
    pub(crate) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Lets go of the Lease, if it is this replica's, so that another one need not wait.
    /// Nothing may be worked on any more.
    pub(crate) async fn withdraw(self) {
        // Whoever does not receive that has ended.
        let _ = self.stop.send(());
        if let Err(error) = self.campaign.await {
            warn!(%error, "the Lease was not let go of");
        }
    }
}

/// What a look at the Lease has come to.
enum Outcome {
    /// It is this replica's, as of when that was asked for.
    Ours(Instant),
    Others,
    /// Somebody deleted it, or let go of it. Whose it is shows at the next look.
    Unknown,
}

struct Candidate {
    api: Api<Lease>,
    replica: String,
    clock: Clock,
    record: Option<Record>,
    has_listed: watch::Receiver<bool>,
    has_looked: Arc<AtomicBool>,
    term: watch::Sender<Term>,
}

impl Candidate {
    async fn run(mut self, stopped: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.campaign() => {}
            _ = stopped => {}
        }
        self.term.send_replace(Term::Standby);
        match timeout(PATIENCE, self.release()).await {
            Ok(Ok(true)) => info!("let go of the Lease"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => warn!(error = brief(&error), "the Lease was not let go of"),
            Err(_) => warn!("the Lease was not let go of: no answer"),
        }
    }

    /// Looks at the Lease, takes it and renews it, for ever.
    async fn campaign(&mut self) {
        let mut failing = false;
        loop {
            let error = match timeout(PATIENCE, self.look()).await {
                Ok(Ok(outcome)) => {
                    self.has_looked.store(true, Ordering::Relaxed);
                    self.take_in(&outcome);
                    None
                }
                Ok(Err(error)) => Some(brief(&error)),
                Err(_) => Some("no answer".to_owned()),
            };
            if let Some(error) = error.as_ref().filter(|_| !failing) {
                warn!(error, lease = names::LEASE, "the Lease cannot be looked at or written");
            }
            failing = error.is_some();
            let is_leader = self.term.borrow().lasts(Instant::now());
            let pause = if is_leader && !failing { RENEW_EVERY } else { LOOK_EVERY };
            let ends = self.record.as_ref().map(Record::ends).filter(|_| !failing && !is_leader);
            let until = ends
                .filter(|ends| *ends > Instant::now())
                .map_or(pause, |ends| ends.saturating_duration_since(Instant::now()).min(pause));
            let listed = async {
                if self.has_listed.changed().await.is_err() {
                    // The process ends.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = sleep(until) => {}
                () = listed => {}
            }
        }
    }

    /// What a failure says of the term is nothing: it ends by itself.
    fn take_in(&self, outcome: &Outcome) {
        let led = *self.term.borrow() != Term::Standby;
        let holder = self.record.as_ref().and_then(Record::holder);
        match outcome {
            Outcome::Ours(asked) => {
                if !led {
                    info!("leading");
                }
                self.term.send_replace(Term::Until(*asked + RENEW_DEADLINE));
            }
            Outcome::Others => {
                if led {
                    warn!(holder, "lost the Lease");
                }
                self.term.send_replace(Term::Standby);
            }
            Outcome::Unknown => {}
        }
    }

    async fn look(&mut self) -> kube::Result<Outcome> {
        let holder = self.record.as_ref().and_then(Record::holder);
        // What this replica holds nobody else may write.
        if holder != Some(&self.replica) {
            self.read().await?;
        }
        if self.record.as_ref().is_some_and(|r| !r.is_free_for(&self.replica, Instant::now())) {
            return Ok(Outcome::Others);
        }
        if !*self.has_listed.borrow_and_update() {
            // Of one that led, and lost sight of the cluster.
            self.term.send_replace(Term::Standby);
            self.release().await?;
            return Ok(Outcome::Others);
        }
        let asked = Instant::now();
        match self.take().await {
            Ok(()) => return Ok(Outcome::Ours(asked)),
            Err(error) if is_code(&error, 409) || is_code(&error, 404) => self.read().await?,
            Err(error) => return Err(error),
        }
        // The answer to a renewal may have been lost, or somebody labelled the Lease.
        match self.record.as_ref().and_then(Record::holder) {
            Some(holder) if holder == self.replica => {
                let asked = Instant::now();
                self.take().await.map(|()| Outcome::Ours(asked))
            }
            Some(_) => Ok(Outcome::Others),
            None => Ok(Outcome::Unknown),
        }
    }

    /// Takes the Lease, or renews it.
    async fn take(&mut self) -> kube::Result<()> {
        let now = self.clock.exactly();
        self.write(&Record::taken(self.record.as_ref(), &self.replica, now)).await
    }

    async fn read(&mut self) -> kube::Result<()> {
        let found = self.api.get_opt(names::LEASE).await?;
        self.record = Record::found(self.record.take(), found, Instant::now());
        Ok(())
    }

    async fn write(&mut self, lease: &Lease) -> kube::Result<()> {
        let params = PostParams { field_manager: Some(names::MANAGER.to_owned()), dry_run: false };
        let stored = if lease.metadata.resource_version.is_some() {
            self.api.replace(names::LEASE, &params, lease).await?
        } else {
            self.api.create(&params, lease).await?
        };
        self.record = Some(Record::new(stored, Instant::now()));
        Ok(())
    }

    /// Returns whether there was anything to let go of.
    async fn release(&mut self) -> kube::Result<bool> {
        let mut tries = 0;
        loop {
            // A renewal may have been on its way.
            self.read().await?;
            let ours = |record: &&Record| record.holder() == Some(&self.replica);
            let Some(released) = self.record.as_ref().filter(ours).map(Record::released) else {
                return Ok(false);
            };
            tries += 1;
            match self.write(&released).await {
                Err(error) if is_code(&error, 409) && tries < TRIES_TO_RELEASE => {}
                result => return result.map(|()| true),
            }
        }
    }
}

#[cfg(test)]
mod tests;
