//! The operator as it runs in production: installed by its chart, as pods on a node, by
//! its own policy. Each step is printed.

mod apps;
mod load;
mod outage;
mod own;
mod page;

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    kind::Kind,
    node, tools,
    world::{World, wait_until},
};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// The operator's namespace, its Deployment, and how its pods are found.
const NAMESPACE: &str = "signing-system";
const DEPLOYMENT: &str = "deployment/signingkeyring-operator";
const PODS: &str = "--selector=app.kubernetes.io/name=signingkeyring-operator";

/// Shows the operator's life on a real node: containerd, kubelet and scheduler, in
/// namespaces of their own. It needs Linux and root. Ends with 1 if anything is not as
/// expected.
#[derive(Parser)]
struct Arguments {
    /// The image, as an OCI layout (make image-layout).
    #[arg(long, default_value = "target/image")]
    image: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if node::is_inside() {
        return inside(&arguments);
    }
    let kind = Kind::under_test();
    ensure!(kind == Kind::ClusterPolicy, "on a node there is nothing to see of {kind}");
    if let Some(why) = node::cannot() {
        bail!("{why}");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let status = runtime.block_on(async {
        // A terminal's Ctrl-C is for what runs inside, too, which then ends.
        let _interrupts = signal(SignalKind::interrupt())?;
        let mut inside = Command::from(node::enter()?);
        inside.arg("--image").arg(&arguments.image).stdin(Stdio::piped());
        let mut inside = inside.spawn()?;
        // It ends when its standard input closes, whatever became of this process.
        let _lifeline = inside.stdin.take();
        anyhow::Ok(inside.wait().await?)
    })?;
    node::tidy()?;
    ensure!(status.success(), "it did not end well: {status}");
    Ok(())
}

fn inside(arguments: &Arguments) -> Result<()> {
    std::thread::spawn(|| {
        let mut nothing = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut nothing);
        std::process::exit(1)
    });
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = show(arguments) => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    });
    runtime.shutdown_background();
    result
}

async fn show(arguments: &Arguments) -> Result<()> {
    let layout = tools::root().join(&arguments.image);
    ensure!(layout.join("index.json").exists(), "there is no image: make image-layout");
    let start = Instant::now();
    say("Starting the cluster, and a node: containerd, kubelet, kube-scheduler");
    let program = tools::built("cluster")?;
    let cluster = Cluster::start_with_node(&program, "node").await?;
    let node = Node { world: World { info: cluster.info.clone() }, cluster, start };
    if let Err(error) = run(&node, &layout.display().to_string()).await {
        let namespace = format!("--namespace={NAMESPACE}");
        for arguments in [
            &["get", "pods", "-A"][..],
            &["get", "events", "-A", "--field-selector=type=Warning"],
            &["logs", PODS, &namespace, "--prefix", "--tail=20"],
        ] {
            let text = node.world.kubectl(arguments).await.unwrap_or_else(|e| e.to_string());
            eprintln!("{text}");
        }
        eprintln!("{}", node.cluster.logs());
        return Err(error);
    }
    say(&format!("Done in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

async fn run(node: &Node, layout: &str) -> Result<()> {
    let image = own::install(node, layout).await?;
    own::test(node).await?;
    own::sign_and_enrol(node, &image).await?;
    own::roll(node).await?;
    apps::run_and_fail(node).await?;
    node.show_pods().await?;
    load::births(node).await?;
    outage::power_cut(node).await?;
    own::revoke(node, &image).await?;
    own::revoke_without_pods(node, &image).await?;
    node.show_pods().await
}

/// The cluster with the node, and what all steps do in it.
struct Node {
    world: World,
    cluster: Cluster,
    start: Instant,
}

impl Node {
    /// Says what comes next, and when.
    fn step(&self, text: &str) {
        say(&format!("{:>4.0} s  {text}", self.start.elapsed().as_secs_f64()));
    }

    /// `kubectl get pods -A`, as it is.
    async fn show_pods(&self) -> Result<()> {
        let pods = self.world.kubectl(&["get", "pods", "-A", "-o", "wide"]).await?;
        print(&format!("\nkubectl get pods -A -o wide\n{pods}\n"));
        Ok(())
    }

    /// Waits until the operator's Deployment has rolled out.
    async fn rolled_out(&self) -> Result<()> {
        let namespace = format!("--namespace={NAMESPACE}");
        let status = ["rollout", "status", DEPLOYMENT, &namespace, "--timeout=120s"];
        self.world.kubectl(&status).await.map(drop)
    }

    /// Begins a rolling update of the operator.
    async fn restart(&self) -> Result<()> {
        let namespace = format!("--namespace={NAMESPACE}");
        self.world.kubectl(&["rollout", "restart", DEPLOYMENT, &namespace]).await.map(drop)
    }

    /// A field of each of the operator's pods that is not about to go.
    async fn of_pods(&self, path: &str) -> Result<Vec<String>> {
        let namespace = format!("--namespace={NAMESPACE}");
        let path = format!("{{range .items[*]}}{path}{{\"\\n\"}}{{end}}");
        let fields = self.world.get(&["pods", &namespace, PODS], &path).await?;
        Ok(fields.lines().map(str::to_owned).collect())
    }

    /// Waits until a Deployment says that its pods are refused; returns how it says so.
    async fn refused(&self, namespace: &str, deployment: &str) -> Result<String> {
        let namespace = format!("--namespace={namespace}");
        let object = ["deployment", deployment, &namespace];
        let failure = "{.status.conditions[?(@.type==\"ReplicaFailure\")]['reason','message']}";
        wait_until(&format!("{deployment} says FailedCreate"), async || {
            Ok(self.world.get(&object, failure).await?.starts_with("FailedCreate"))
        })
        .await?;
        let text = self.world.get(&object, failure).await?;
        ensure!(text.contains("kyverno"), "not by Kyverno: {text}");
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        Ok(last.context("no text")?.chars().take(200).collect())
    }
}

fn say(text: &str) {
    print(&format!("==> {text}\n"));
}

fn print(text: &str) {
    // A terminal that has gone away is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
