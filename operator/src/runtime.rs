//! Puts the parts together and runs them until the process is told to stop.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::reflector,
};
use signingkeyring_core::{account::Account, usable::Preference};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Barrier, watch},
};
use tracing::{info, warn};

use crate::{
    cache::{
        Cache, Contents, Kyverno, Ledgers, Looks, LostLists, Namespaces, Policies, Questions,
        Rings, Statuses, UnknownSince, UnknownTold, Usable, Written,
    },
    clock::Clock,
    context::{Announced, Context},
    controllers,
    gate::Gate,
    gathering::Gathering,
    guard,
    handover::Handover,
    http::{self, Health},
    identity,
    key_orders::KeyOrders,
    kinds,
    leadership::{Election, Leadership},
    probe,
    rotations::{Rotations, Standing},
    sealings::Sealings,
    settings::Settings,
    telemetry::{Events, Metrics, Requests},
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
    let requests = Requests::default();
    let client = connect(&settings, &requests).await?;
    let (has_listed, listed) = watch::channel(false);
    let election = if settings.leader_elect {
        Some(Election::stand(client.clone(), &settings, clock.clone(), listed)?)
    } else {
        None
    };
    let leadership = election.as_ref().map_or_else(Leadership::unlimited, Election::leadership);
    let result = tokio::select! {
        result = serve(client, settings, clock, leadership, has_listed, requests) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // Whatever was under way is a start state like any other, and by now nothing is.
    if let Some(election) = election {
        election.withdraw().await;
    }
    info!("stopped");
    result
}

/// Runs the operator with a client and a clock, and without others, until the future is
/// dropped, which may happen anywhere: every state is a start state.
///
/// # Errors
/// If it cannot start, or one of its parts ends on its own.
pub async fn operate(client: Client, settings: Settings, clock: Clock) -> anyhow::Result<()> {
    let (leadership, has_listed) = (Leadership::unlimited(), watch::Sender::new(false));
    serve(client, settings, clock, leadership, has_listed, Requests::default()).await
}

async fn serve(
    client: Client,
    settings: Settings,
    clock: Clock,
    leadership: Leadership,
    has_listed: watch::Sender<bool>,
    requests: Requests,
) -> anyhow::Result<()> {
    info!(
        namespace = settings.namespace,
        enrolment_label = settings.enrolment_label,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let health = Health::new(leadership.clone(), has_listed, &requests);
    let terms = async {
        let account = identity::ask(&client, &settings.namespace).await;
        loop {
            let (context, writers) = assemble(&client, &settings, &clock, &account, &requests);
            follow(&context, writers, &leadership, &health).await?;
            // All that it remembers is of a time that is over: others have written since.
            warn!("this replica leads no longer, and begins anew as a standby");
        }
    };
    tokio::select! {
        result = http::serve(&settings, &client, &health) => {
            result.context("serving health and metrics")?;
            anyhow::bail!("the HTTP server ended")
        }
        result = terms => result,
    }
}

/// Follows the cluster, works once this replica leads, and ends when it does no longer.
async fn follow(
    context: &Context,
    writers: watches::Writers,
    leadership: &Leadership,
    health: &Health,
) -> anyhow::Result<()> {
    health.lists(&context.metrics);
    let listed = Arc::new(Barrier::new(watches::WATCHES + 1));
    let lead = async {
        // A decision on half a picture could take a missing ledger for a lost one.
        listed.wait().await;
        health.has_listed();
        info!(rings = context.cache.rings.len(), "the cluster is listed");
        tokio::select! {
            biased;
            () = leadership.begins() => {}
            () = settle(context) => leadership.begins().await,
        }
        leadership.while_it_lasts(work(context)).await
    };
    tokio::select! {
        () = watches::run(context, writers, Arc::clone(&listed)) => {
            anyhow::bail!("the watches ended")
        }
        worked = lead => match worked {
            None => Ok(()),
            Some(()) => anyhow::bail!("the controllers ended"),
        }
    }
}

/// Keeps what was listed before its ledger in no more memory than it needs, as passes do, of
/// which a standby makes none. It takes seconds of thousands, and who is to lead does not wait.
async fn settle(context: &Context) {
    for ring in context.cache.rings.names() {
        context.cache.settle(&ring);
        tokio::task::yield_now().await;
    }
}

/// Works, for ever. Whoever begins to has heard nothing of Kyverno yet: each
/// acknowledgement and each soak begins anew.
async fn work(context: &Context) {
    if context.settings.policy_kind.preference() == Preference::Auto {
        // Before a ring is placed.
        kinds::look(context).await;
    }
    // Before one begins, what has begun counts.
    for ring in context.cache.ledgers.rings() {
        let ledger = context.cache.ledgers.outline(ring.as_str());
        if ledger.is_some_and(|ledger| ledger.rotates) && context.cache.rings.exists(ring.as_str())
        {
            context.rotations.note(ring.as_str(), Standing::UnderWay(Duration::ZERO));
        }
    }
    info!(rings = context.cache.rings.len(), "working");
    watches::begin_anew(context);
    futures::join!(
        controllers::rings::run(context),
        context.key_orders.run(),
        controllers::policies::run(context),
        probe::run(context),
        controllers::rechecks::run(context),
        guard::run(context),
        kinds::run(context),
    );
}

async fn connect(settings: &Settings, requests: &Requests) -> anyhow::Result<Client> {
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
    let client = ClientBuilder::try_from(config)?.with_layer(requests).build();
    let version = client.apiserver_version().await.context("the API server does not answer")?;
    info!(kubernetes = version.git_version, "connected");
    Ok(client)
}

fn assemble(
    client: &Client,
    settings: &Settings,
    clock: &Clock,
    account: &Account,
    requests: &Requests,
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
        unknown_told: UnknownTold::default(),
        written: Written::default(),
        contents: Contents::default(),
        looks: Looks::default(),
        statuses: Statuses::default(),
        kyverno: Kyverno::new(&settings.kyverno_namespace, settings.accepted()),
        questions: Questions::default(),
    };
    let (sealings, rings) = (Arc::new(Sealings::new(settings)), Arc::new(WorkQueue::default()));
    let context = Context {
        events: Events::new(client.clone(), clock.clone()),
        client: client.clone(),
        clock: clock.clone(),
        key_orders: Arc::new(KeyOrders::new(Arc::clone(&sealings), Arc::clone(&rings))),
        sealings,
        gathering: Arc::new(Gathering::of_policies()),
        reports: Arc::new(Gathering::of_statuses()),
        handover: Arc::new(Handover::default()),
        rechecks: Arc::default(),
        rotations: Arc::new(Rotations::new(settings.max_rotations)),
        revoking: Arc::default(),
        settings: Arc::new(settings.clone()),
        account: Arc::new(account.clone()),
        cache: Arc::new(cache),
        gate: Arc::new(Gate::default()),
        rings,
        policies: Arc::new(WorkQueue::default()),
        metrics: Arc::new(Metrics::new(requests)),
        announced: Arc::new(Announced::default()),
    };
    let writers =
        watches::Writers { rings: rings_writer, lists: lists_writer, policies: policies_writer };
    (context, writers)
}
