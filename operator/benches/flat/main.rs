//! What the operator weighs and does, by the number of rings: `make bench-flat`.
//!
//! The operator runs in the process that is measured, and an API server of a few
//! hundred lines in another one. So nothing but the operator is in the numbers, and
//! ten thousand rings take a minute.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    alloc::{GlobalAlloc, System},
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
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use signingkeyring_operator::{clock::Clock, runtime, settings::Settings, telemetry};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tikv_jemallocator::Jemalloc;

mod api_server;
mod rings;

/// Counts, and hands on to the system's `malloc`, which is the operator's allocator here.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Has the linker take in that allocator, with its `malloc`.
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

/// What was measured. Bytes and counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Row {
    rings: usize,
    at_start: u64,
    settled_s: f64,
    /// Passes over rings until then, and passes over policies.
    passes_of_start: [u64; 2],
    /// What was asked until then.
    start: BTreeMap<String, u64>,
    resident: u64,
    live: i64,
    peak_of_start: u64,
    resident_relisted: u64,
    live_relisted: i64,
    peak_of_relist: u64,
    idle: Work,
    /// Of a core.
    busy_at_rest: f64,
    ring_pass: Work,
    policy_pass: Work,
    birth: BTreeMap<String, u64>,
    rotation: BTreeMap<String, u64>,
}

/// What each pass took, or rest in a second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Work {
    allocations: f64,
    bytes: f64,
    /// Of a core: what walks over all there is under a lock allocates nothing.
    microseconds: f64,
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
    let grown = grown(&rows);
    ensure!(
        grown.iter().all(|(_, ratio)| *ratio <= arguments.most),
        "a pass does more than {} times as much with more rings: {grown:?}",
        arguments.most
    );
    Ok(())
}

fn grown(rows: &[Row]) -> Vec<(&'static str, f64)> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Vec::new() };
    let of = |row: &Row| {
        [
            ("allocations of a ring's pass", row.ring_pass.allocations),
            ("bytes of a ring's pass", row.ring_pass.bytes),
            ("allocations of a policy's pass", row.policy_pass.allocations),
            ("bytes of a policy's pass", row.policy_pass.bytes),
        ]
    };
    of(first).into_iter().zip(of(last)).map(|((what, a), (_, b))| (what, b / a)).collect()
}

fn print(rows: &[Row]) {
    let line = |what: &str, of: &dyn Fn(&Row) -> String| {
        let cells: Vec<String> = rows.iter().map(|row| format!("{:>12}", of(row))).collect();
        println!("{what:<46} {}", cells.join(" "));
    };
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let each = |count: u64, row: &Row| format!("{:.2}", count as f64 / row.rings as f64);
    line("rings", &|row| row.rings.to_string());
    line("MB resident before anything was listed", &|row| mb(row.at_start));
    line("MB resident at rest", &|row| mb(row.resident));
    line("MB allocated at rest", &|row| mb(row.live.unsigned_abs()));
    line("bytes allocated a ring", &|row| format!("{:.0}", row.live as f64 / row.rings as f64));
    line("MB resident at most until then", &|row| mb(row.peak_of_start));
    line("MB resident after a forced relist", &|row| mb(row.resident_relisted));
    line("MB allocated after a forced relist", &|row| mb(row.live_relisted.unsigned_abs()));
    line("MB resident at most in the relist", &|row| mb(row.peak_of_relist));
    line("percent of a core at rest", &|row| format!("{:.2}", row.busy_at_rest * 100.0));
    line("seconds until at rest", &|row| format!("{:.0}", row.settled_s));
    for (what, of) in [
        ("rest for a second", (|row| row.idle) as fn(&Row) -> Work),
        ("a ring's pass", |row| row.ring_pass),
        ("a policy's pass", |row| row.policy_pass),
    ] {
        line(&format!("allocations of {what}"), &|row| format!("{:.0}", of(row).allocations));
        line(&format!("kB allocated by {what}"), &|row| format!("{:.1}", of(row).bytes / 1e3));
        line(&format!("microseconds of a core, {what}"), &|row| {
            format!("{:.0}", of(row).microseconds)
        });
    }
    line("passes over a ring until at rest", &|row| each(row.passes_of_start[0], row));
    line("passes over a policy until at rest", &|row| each(row.passes_of_start[1] * PACK, row));
    for (what, ratio) in grown(rows) {
        println!("{what}: {ratio:.2} times with {} rings", rows.last().map_or(0, |row| row.rings));
    }
    if let Some(row) = rows.last() {
        let all: Vec<String> = row
            .start
            .iter()
            .filter(|(_, count)| **count as usize * 10 > row.rings)
            .map(|(request, count)| format!("{} {request}", each(*count, row)))
            .collect();
        println!("a start, for each ring: {}", all.join(", "));
    }
    for (what, of) in [
        ("a birth", (|row| &row.birth) as fn(&Row) -> &BTreeMap<String, u64>),
        ("a rotation", |row| &row.rotation),
    ] {
        if let Some(row) = rows.last() {
            let all: Vec<String> =
                of(row).iter().map(|(request, count)| format!("{count} {request}")).collect();
            println!("{what}: {} requests: {}", of(row).values().sum::<u64>(), all.join(", "));
        }
    }
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

/// What this process takes from some moment on.
struct Taken {
    region: Region<'static, System>,
    busy: u64,
}

impl Taken {
    fn from_now() -> Result<Self> {
        Ok(Self { region: Region::new(ALLOCATOR), busy: busy()? })
    }

    fn until_now(&self) -> Result<Work> {
        let change = self.region.change();
        Ok(Work {
            allocations: change.allocations as f64,
            bytes: change.bytes_allocated as f64,
            microseconds: (busy()? - self.busy) as f64 / 1e3,
        })
    }
}

impl Work {
    fn of_each(self, count: f64) -> Self {
        Self {
            allocations: self.allocations / count,
            bytes: self.bytes / count,
            microseconds: self.microseconds / count,
        }
    }

    /// Without so many seconds of rest.
    fn without(self, idle: Self, seconds: f64) -> Self {
        Self {
            allocations: self.allocations - idle.allocations * seconds,
            bytes: self.bytes - idle.bytes * seconds,
            microseconds: self.microseconds - idle.microseconds * seconds,
        }
    }
}

/// For how many nanoseconds this process's threads were on a core. None of them ends.
fn busy() -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().context("no time")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// A line of this process's memory, in bytes.
fn memory(what: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib: u64 = line.context("no such line")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
