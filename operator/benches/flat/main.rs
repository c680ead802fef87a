//! What the operator weighs and does, by the number of rings: `make bench-flat`.
//!
//! The operator runs in the process that is measured, and an API server of a few
//! hundred lines in another one. So nothing but the operator is in the numbers, and
//! ten thousand rings take a minute.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    alloc::GlobalAlloc,
    collections::BTreeMap,
    env, fs,
    hint::black_box,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use kube::{Client, Config};
use serde_json::{Value, json};
use signingkeyring_operator::{clock::Clock, runtime, settings::Settings, telemetry};
use stats_alloc::Region;
use tikv_jemallocator::Jemalloc;

use table::{COUNTS, Row, grown, print};
use work::{ALLOCATOR, Taken, Work, memory};

mod api_server;
mod rings;
mod table;
mod work;

/// Has the linker take in the operator's allocator, with its `malloc`.
static IN_ITS_PLACE: Jemalloc = Jemalloc;

/// How long all may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(900);

/// It is at rest when nothing was written for so long.
const REST: Duration = Duration::from_secs(5);

/// After so long the allocator has given back what looking at the operator has taken.
const GIVEN_BACK: Duration = Duration::from_secs(3);

/// After so long connections are closed that nobody uses, each with what it has read into.
const CLOSED: Duration = Duration::from_secs(100);

/// For so long it is looked what rest takes.
const REST_LOOKED_AT: Duration = Duration::from_secs(30);

/// How many passes are counted of each kind.
const PASSES: usize = 50;

/// How many rings share a policy.
const PACK: u64 = 25;

/// Prints a table with a column for each number of rings, and how much more the last is
/// than the first.
#[derive(Parser)]
struct Arguments {
    /// The numbers of rings.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_value = "100,10000")]
    rings: Vec<usize>,
    /// Fails if a pass does this many times more with the most rings than with the fewest.
    #[arg(long, default_value_t = 1.2)]
    most: f64,
    /// Set by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Serves that many rings, for the program that started this one.
    #[arg(long, hide = true)]
    serve: Option<usize>,
    /// Measures that many rings, for the program that started this one.
    #[arg(long, hide = true)]
    measure: Option<usize>,
    /// Logs what the operator does.
    #[arg(long, default_value = "error")]
    log_level: String,
}

fn main() -> Result<()> {
    let _: &dyn GlobalAlloc = black_box(&IN_ITS_PLACE);
    let arguments = Arguments::parse();
    if let Some(rings) = arguments.serve {
        return api_server::serve(rings::cluster(rings)?);
    }
    if let Some(rings) = arguments.measure {
        telemetry::init_logs(
            signingkeyring_operator::settings::LogFormat::Text,
            &arguments.log_level,
        )?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let row = runtime.block_on(measure(rings))?;
        println!("{}", serde_json::to_string(&row)?);
        return Ok(());
    }
    let mut rows: Vec<Row> = Vec::new();
    for rings in &arguments.rings {
        let output = Command::new(env::current_exe()?)
            .args(["--measure", &rings.to_string(), "--log-level", &arguments.log_level])
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "{rings} rings: {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        rows.push(serde_json::from_str(text.lines().last().context("nothing measured")?)?);
    }
    print(&rows);
    let grown = grown(&rows, &COUNTS);
    ensure!(
        grown.iter().all(|(_, ratio)| *ratio <= arguments.most),
        "a pass does more than {} times as much with more rings: {grown:?}",
        arguments.most
    );
    Ok(())
}

/// The API server's process.
struct Server {
    process: Child,
    url: String,
    /// Where the operator's metrics are.
    operator: Option<Client>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(rings: usize) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["--serve", &rings.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut port)?;
        ensure!(!port.is_empty(), "the API server did not start");
        let url = format!("http://127.0.0.1:{}", port.trim());
        Ok(Self { process, url, operator: None })
    }

    async fn ask(&self, client: &Client, what: &str, body: &Value) -> Result<Value> {
        let uri = format!("{}{what}", api_server::BENCH);
        let request = http::Request::post(uri).body(serde_json::to_vec(body)?)?;
        Ok(client.request(request).await?)
    }

    async fn requests(&self, client: &Client) -> Result<BTreeMap<String, u64>> {
        Ok(serde_json::from_value(self.ask(client, "/requests", &Value::Null).await?)?)
    }

    /// How many passes the operator has made over rings, or policies, or all of them.
    async fn passes(&self, controller: &str) -> Result<u64> {
        let Some(operator) = &self.operator else { return Ok(0) };
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let Ok(text) = operator.request_text(request).await else { return Ok(0) };
        let counts = text.lines().filter(|line| line.contains("reconciles_total{"));
        let counts = counts.filter(|line| line.contains(controller));
        Ok(counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    /// Waits until nothing was asked for a while but what is asked at rest, and no pass
    /// was made.
    async fn rest(&self, client: &Client) -> Result<()> {
        let start = Instant::now();
        let mut before = 0;
        let mut since = Instant::now();
        loop {
            let requests = self.requests(client).await?;
            let busy = requests.iter().filter(|(what, _)| !what.ends_with(" gatequestions"));
            let now = busy.map(|(_, count)| count).sum::<u64>() + self.passes("").await?;
            if now > before + 20 {
                (before, since) = (now, Instant::now());
            }
            if since.elapsed() > REST {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "it does not come to rest: {requests:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn measure(rings: usize) -> Result<Row> {
    let mut server = Server::start(rings)?;
    let client = Client::try_from(Config::new(server.url.parse()?))?;
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    server.operator = Some(Client::try_from(Config::new(format!("http://{listen}").parse()?))?);
    let settings = Settings::parse_from([
        "operator",
        "--listen",
        &listen.to_string(),
        "--recheck-interval",
        "2h",
        "--rings-per-policy",
        &PACK.to_string(),
    ]);
    let mut row = Row { rings, at_start: memory("VmRSS")?, ..Row::default() };
    let live = Region::new(ALLOCATOR);
    let start = Instant::now();
    let operator = tokio::spawn(runtime::operate(client.clone(), settings, Clock::system()));
    loop {
        server.rest(&client).await?;
        let ready = server.ask(&client, "/ready", &Value::Null).await?;
        if ready["ready"] == rings {
            break;
        }
        if operator.is_finished() {
            bail!("the operator ended: {:?}", operator.await?);
        }
        ensure!(start.elapsed() < PATIENCE, "{ready}: {:?}", server.requests(&client).await?);
    }
    row.settled_s = (start.elapsed() - REST).as_secs_f64();
    row.passes_of_start = [server.passes("rings").await?, server.passes("policies").await?];
    row.start = server.requests(&client).await?;
    tokio::time::sleep(CLOSED).await;
    let allocated = || {
        let change = live.change();
        change.bytes_allocated as i64 - change.bytes_deallocated as i64
    };
    (row.resident, row.live, row.peak_of_start) = (memory("VmRSS")?, allocated(), memory("VmHWM")?);

    fs::write("/proc/self/clear_refs", "5")?;
    server.ask(&client, "/relist", &Value::Null).await?;
    server.rest(&client).await?;
    tokio::time::sleep(CLOSED).await;
    row.peak_of_relist = memory("VmHWM")?;
    (row.resident_relisted, row.live_relisted) = (memory("VmRSS")?, allocated());

    let rest = Taken::from_now()?;
    tokio::time::sleep(REST_LOOKED_AT).await;
    row.idle = rest.until_now()?.of_each(REST_LOOKED_AT.as_secs_f64());
    row.busy_at_rest = row.idle.microseconds / 1e6;
    let mut passes = [Work::default(); 2];
    let watched = [("rings", rings::RINGS), ("policies", "kyverno.io/v1/clusterpolicies")];
    for (of_one, (controller, collection)) in passes.iter_mut().zip(watched) {
        let made = server.passes(controller).await?;
        tokio::time::sleep(GIVEN_BACK).await;
        // To look how far it is takes more than what is counted.
        let (taken, start) = (Taken::from_now()?, Instant::now());
        for number in 0..PASSES {
            let name = match controller {
                "rings" => rings::name(number * (rings / PASSES)),
                _ => format!("signing-enforce-{:04}", 1 + number % (rings / PACK as usize)),
            };
            let touched = json!({"example.org/touched": number.to_string()});
            let patch = json!({"metadata": {"annotations": touched}});
            let body = json!({"collection": collection, "name": name, "patch": patch});
            server.ask(&client, "/merge", &body).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(REST).await;
        let all = taken.until_now()?.without(row.idle, start.elapsed().as_secs_f64());
        let made = (server.passes(controller).await? - made) as f64;
        ensure!(made >= PASSES as f64 / 2.0, "{made} passes over {controller}");
        *of_one = all.of_each(made);
    }
    [row.ring_pass, row.policy_pass] = passes;

    row.birth = counted(&server, &client, async || {
        for which in ["dev", "prod", "ci", "cd"] {
            let ring = ["dev", "prod"].contains(&which).then_some("newborn");
            let object = rings::namespace(&format!("newborn-{which}"), ring);
            let body = json!({"collection": "v1/namespaces", "object": object});
            server.ask(&client, "/create", &body).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut object = rings::ring("newborn");
        object["metadata"]["annotations"] = json!({});
        object["metadata"]["finalizers"] = json!([]);
        let body = json!({"collection": rings::RINGS, "object": object});
        server.ask(&client, "/create", &body).await?;
        wait(&server, &client, "newborn", |ring| ring["status"]["currentVersion"] == 1).await
    })
    .await?;
    let rotated = rings::name(rings / 2);
    row.rotation = counted(&server, &client, async || {
        let patch = json!({"metadata": {"annotations": {
            signingkeyring_core::names::ANNOTATION_ROTATE: "once more"}}});
        let body = json!({"collection": rings::RINGS, "name": rotated, "patch": patch});
        server.ask(&client, "/merge", &body).await?;
        wait(&server, &client, &rotated, |ring| ring["status"]["observedRotation"] == "once more")
            .await
    })
    .await?;
    operator.abort();
    Ok(row)
}

/// What was asked of the API server meanwhile and until all was at rest again.
async fn counted(
    server: &Server,
    client: &Client,
    happens: impl AsyncFnOnce() -> Result<()>,
) -> Result<BTreeMap<String, u64>> {
    let before = server.requests(client).await?;
    happens().await?;
    server.rest(client).await?;
    let mut requests = server.requests(client).await?;
    for (what, count) in &mut requests {
        *count -= before.get(what).unwrap_or(&0);
    }
    requests.retain(|what, count| *count > 0 && !what.ends_with(" gatequestions"));
    Ok(requests)
}

async fn wait(
    server: &Server,
    client: &Client,
    ring: &str,
    is_there: impl Fn(&Value) -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let body = json!({"collection": rings::RINGS, "name": ring});
        let found = server.ask(client, "/object", &body).await?;
        if is_there(&found) {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "ring {ring} does not come so far: {found}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
