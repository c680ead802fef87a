//! Puts the parts together and runs them until the process is told to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::reflector,
};
use signingkeyring_core::account::Account;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Barrier,
};
use tracing::info;

use crate::{
    cache::{
        Cache, Contents, Kyverno, Ledgers, LostLists, Namespaces, Questions, Statuses,
        UnknownSince, Written,
    },
    clock::Clock,
    context::{Announced, Context},
    controllers,
    gate::Gate,
    guard, http, identity, kyverno, probe,
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
    ready.store(true, Ordering::Relaxed);
    info!(rings = context.cache.rings.len(), "working");
    watches::wake_all(context);
    futures::join!(
        controllers::rings::run(context),
        controllers::policies::run(context),
        probe::run(context),
        guard::run(context),
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
    let (rings, rings_writer) = reflector::store();
    let (lists, lists_writer) = reflector::store();
    let policies_writer = reflector::store::Writer::new(kyverno::resource());
    let cache = Cache {
        rings,
        lists,
        lost_lists: LostLists::default(),
        policies: policies_writer.as_reader(),
        ledgers: Ledgers::default(),
        namespaces: Namespaces::default(),
        unknown_since: UnknownSince::default(),
        written: Written::default(),
        contents: Contents::default(),
        statuses: Statuses::default(),
        kyverno_served: AtomicBool::new(true),
        kyverno: Kyverno::new(&settings.kyverno_namespace, settings.accepted()),
        questions: Questions::default(),
    };
    let context = Context {
        events: Events::new(client.clone()),
        client,
        clock,
        sealings: Arc::new(Sealings::new(&settings)),
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
