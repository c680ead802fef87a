//! Puts the parts together and runs them until the process is told to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::reflector,
};
use signingkeyring_core::{account::Account, ledger::Ledger, usable::Preference};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Barrier,
};
use tracing::info;

use crate::{
    cache::{
        Cache, Contents, Kyverno, LedgerRow, Ledgers, Looks, LostLists, Namespaces, Policies,
        Questions, Rings, Statuses, UnknownSince, Usable, Written,
    },
    clock::Clock,
    context::{Announced, Context},
    controllers,
    gate::Gate,
    gathering::Gathering,
    guard, http, identity, kinds, probe,
    rotations::{Rotations, Standing},
    sealings::Sealings,
    settings::Settings,
    telemetry::{Events, Metrics},
    watches,
    workqueue::WorkQueue,
};

/// Runs the operator until SIGTERM or SIGINT, by the system's clock or, in a
/// test, by another.
///
/// # Errors
/// If it cannot start, or one of its parts ends on its own.
pub async fn run(settings: Settings, clock: Clock) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = connect(&settings).await?;
    tokio::select! {
        result = operate(client, settings, clock) => result?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whatever was under way is a start state like any other.
    info!("stopped");
    Ok(())
}

/// Runs the operator with a client and a clock until the future is dropped,
/// which may happen anywhere: every state is a start state.
///
/// # Errors
/// If it cannot start, or one of its parts ends on its own.
pub async fn operate(client: Client, settings: Settings, clock: Clock) -> anyhow::Result<()> {
    let account = identity::ask(&client, &settings.namespace).await;
    let (context, writers) = assemble(client, settings, clock, account);
    let ready = Arc::new(AtomicBool::new(false));
    let listed = Arc::new(Barrier::new(watches::WATCHES + 1));
    info!(
        namespace = context.settings.namespace,
        enrolment_label = context.settings.enrolment_label,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    tokio::select! {
        result = http::serve(&context, Arc::clone(&ready)) => {
            result.with_context(|| format!("serving on {}", context.settings.listen))?;
            anyhow::bail!("the HTTP server ended")
        }
        () = watches::run(&context, writers, Arc::clone(&listed)) => {
            anyhow::bail!("the watches ended")
        }
        () = work(&context, &listed, &ready) => anyhow::bail!("the controllers ended"),
    }
}

/// Works once everything has been seen: a decision on half a picture could
/// take a missing ledger for a lost one.
async fn work(context: &Context, listed: &Barrier, ready: &AtomicBool) {
    listed.wait().await;
    if context.settings.policy_kind.preference() == Preference::Auto {
        // Before a ring is placed.
        kinds::look(context).await;
    }
    // Before one begins, what has begun counts.
    for ring in context.cache.ledgers.rings() {
        let row = context.cache.ledgers.get(ring.as_str());
        let rotates = row.as_ref().and_then(LedgerRow::table).is_some_and(Ledger::is_rotating);
        if rotates && context.cache.ring(ring.as_str()).is_some() {
            context.rotations.note(ring.as_str(), Standing::UnderWay(Duration::ZERO));
        }
    }
    ready.store(true, Ordering::Relaxed);
    info!(rings = context.cache.rings.len(), "working");
    watches::wake_all(context);
    futures::join!(
        controllers::rings::run(context),
        controllers::policies::run(context),
        probe::run(context),
        controllers::rechecks::run(context),
        guard::run(context),
        kinds::run(context),
    );
}

async fn connect(settings: &Settings) -> anyhow::Result<Client> {
    let config = match &settings.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("reading kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster().context(
            "not in a cluster; name a kubeconfig with --kubeconfig or the environment variable \
             KUBECONFIG",
        )?,
    };
    let client = Client::try_from(config)?;
    let version = client.apiserver_version().await.context("the API server does not answer")?;
    info!(kubernetes = version.git_version, "connected");
    Ok(client)
}

fn assemble(
    client: Client,
    settings: Settings,
    clock: Clock,
    account: Account,
) -> (Context, watches::Writers) {
    let (rings, rings_writer) = Rings::new();
    let (lists, lists_writer) = reflector::store();
    let (policies, policies_writer) = Policies::new();
    let cache = Cache {
        rings,
        lists,
        lost_lists: LostLists::default(),
        policies,
        usable: Usable::default(),
        ledgers: Ledgers::default(),
        namespaces: Namespaces::default(),
        unknown_since: UnknownSince::default(),
        written: Written::default(),
        contents: Contents::default(),
        looks: Looks::default(),
        statuses: Statuses::default(),
        kyverno: Kyverno::new(&settings.kyverno_namespace, settings.accepted()),
        questions: Questions::default(),
    };
    let context = Context {
        events: Events::new(client.clone(), clock.clone()),
        client,
        clock,
        sealings: Arc::new(Sealings::new(&settings)),
        gathering: Arc::new(Gathering::of_policies()),
        reports: Arc::new(Gathering::of_statuses()),
        rechecks: Arc::default(),
        rotations: Arc::new(Rotations::new(settings.max_rotations)),
        settings: Arc::new(settings),
        account: Arc::new(account),
        cache: Arc::new(cache),
        gate: Arc::new(Gate::default()),
        rings: Arc::new(WorkQueue::default()),
        policies: Arc::new(WorkQueue::default()),
        metrics: Arc::new(Metrics::default()),
        announced: Arc::new(Announced::default()),
    };
    let writers =
        watches::Writers { rings: rings_writer, lists: lists_writer, policies: policies_writer };
    (context, writers)
}
