//! The demo: a ring is born, signs, rotates, and blocks the image of its first
//! key, on real components.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    images::Verdict,
    kind::Kind,
    operator::Operator,
    tools,
    world::{World, consent, timed, wait_until},
};

const RING: &str = "checkout";
const NAMESPACE: &str = "checkout-dev";
const SECRET: &str = "checkout-ci/image-signing";
const VERSIONS: u32 = 4;

/// What shows more than the demo.
const MORE: &str = "
What shows more, with KEEP=1 or on a cluster of yours (make plugin says how to have it on PATH):

  kubectl signing status checkout             # versions, who holds the key, what is wrong
  kubectl signing impact checkout --rotate    # what would not start after the next rotation
  kubectl signing why IMAGE -n checkout-dev   # who signed it, and what Kyverno says
  kubectl signing verify checkout             # whether the gate is closed now
  kubectl signing history checkout            # every version, for auditors
";

/// Shows a ring's life on a real kube-apiserver, Kyverno, registry and cosign.
/// Ends with 1 if any verdict is not the expected one. SIGNING_POLICY_KIND names the
/// kind of policy that shall enforce.
#[derive(Parser)]
struct Arguments {
    /// Leave the cluster and the operator running, and say how to look around.
    #[arg(long)]
    keep: bool,
    /// The name of the cluster's folder, which is emptied first.
    #[arg(long, default_value = "demo", hide = true)]
    folder: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let start = Instant::now();
    say("Starting etcd, kube-apiserver, controller manager, registry and Kyverno");
    let program = std::env::current_exe()?.with_file_name("cluster");
    let cluster = Cluster::start(&program, &arguments.folder).await?;
    let world = World { info: cluster.info.clone() };
    let mut steps = vec![("cluster started".to_owned(), start.elapsed())];
    let result = tokio::select! {
        result = run(&world, &program, &mut steps) => result,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let (mut operator, wrong) = match result {
        Ok(shown) => shown,
        Err(error) => {
            eprintln!("{}", cluster.logs());
            return Err(error);
        }
    };
    say(&format!("Done in {:.0} s", start.elapsed().as_secs_f64()));
    print(MORE);
    if arguments.keep {
        explain(&world);
        tokio::select! {
            ended = operator.ended() => bail!("{}", ended?),
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    drop(cluster);
    ensure!(wrong == 0, "{wrong} verdicts are not the expected ones");
    Ok(())
}

async fn run(
    world: &World,
    guard: &Path,
    steps: &mut Vec<(String, Duration)>,
) -> Result<(Operator, usize)> {
    say("Installing: kubectl apply -k manifests and manifests/probe, and then the exclusion list");
    let (installed, took) = timed(world.install()).await;
    installed?;
    steps.push(("installed".to_owned(), took));

    say(&format!("Starting the operator with its own ServiceAccount, for {}", Kind::under_test()));
    let program: PathBuf = tools::built("signingkeyring-operator")?;
    let (operator, took) = timed(Operator::start(world, guard, &program, &[])).await;
    let operator = operator?;
    steps.push(("operator ready".to_owned(), took));

    say("Applying the example: kubectl apply -k manifests/example");
    let (born, took) = timed(async {
        world.kubectl(&["apply", "--kustomize=manifests/example"]).await?;
        world.wait_for_condition(RING, "Ready", "True").await
    })
    .await;
    born?;
    steps.push(("ring ready: version 1 signs".to_owned(), took));

    let mut images = Vec::new();
    for version in 1..=VERSIONS {
        if version > 1 {
            say(&format!(
                "Rotating: kubectl annotate skr {RING} signing.odj.cloud/rotate=demo-{version}"
            ));
            let (rotated, took) = timed(world.rotate(RING, &format!("demo-{version}"))).await;
            rotated?;
            steps.push((format!("rotated: version {version} signs"), took));
        }
        let current = world.ring(RING, "{.status.currentVersion}").await?;
        ensure!(current == version.to_string(), "version {current} is current, not {version}");
        let image = world.push("checkout/app", &format!("v{version}")).await?;
        say(&format!("Signing with version {version}: cosign sign --key k8s://{SECRET} {image}"));
        let (signed, took) = timed(world.sign(&image, SECRET)).await;
        signed?;
        steps.push((format!("signed by version {version}"), took));
        images.push(image);
    }
    let others = other_images(world).await?;
    say("Asking the API server for its verdicts");
    let wrong = verdicts(world, &images, &others).await?;
    show(world, steps).await?;
    Ok((operator, wrong))
}

/// Images that no version of the ring signed.
struct Others {
    unsigned: String,
    foreign: String,
}

async fn other_images(world: &World) -> Result<Others> {
    say("Applying a second ring, to sign an image with its key");
    let (namespace, ring) = ("payments-ci", "payments");
    let manifest = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}\n---\n{}---\n\
         {{apiVersion: signing.odj.cloud/v1alpha1, kind: SigningKeyRing, metadata: {{name: {ring}}}, \
         spec: {{pipelines: [{{namespace: {namespace}}}]}}}}\n",
        consent(namespace)
    );
    world.apply(&manifest).await?;
    world.wait_for_condition(ring, "Ready", "True").await?;
    let foreign = world.push("payments/app", "v1").await?;
    world.sign(&foreign, &format!("{namespace}/image-signing")).await?;
    let unsigned = world.push("checkout/unsigned", "v1").await?;
    // What the local registry serves as this stands for the real quay.io image.
    world.push("jetstack/cert-manager-controller", "v1.19.0").await?;
    Ok(Others { unsigned, foreign })
}

async fn verdicts(world: &World, images: &[String], others: &Others) -> Result<usize> {
    let mut rows: Vec<(String, &str, bool)> = images
        .iter()
        .zip(1..)
        .map(|(image, version)| {
            (format!("signed by version {version}"), image.as_str(), version > VERSIONS - 3)
        })
        .collect();
    rows.push(("unsigned".into(), &others.unsigned, false));
    rows.push(("signed by another ring".into(), &others.foreign, false));
    rows.push(("excluded".into(), "quay.io/jetstack/cert-manager-controller:v1.19.0", true));
    // The last version fell out of the window some milliseconds ago.
    wait_until("Kyverno refuses the first version", async || {
        Ok(world.admit(NAMESPACE, &images[0]).await? != Verdict::Admitted)
    })
    .await?;
    let mut wrong = 0;
    let mut table = String::new();
    for (what, image, admitted) in rows {
        let verdict = world.admit(NAMESPACE, image).await?;
        let expected = (verdict == Verdict::Admitted) == admitted;
        wrong += usize::from(!expected);
        let word = if verdict == Verdict::Admitted { "admitted" } else { "blocked" };
        let mark = if expected { "as expected" } else { "WRONG" };
        table.push_str(&format!("  {what:<24} {word:<9} {mark}\n"));
        if let Verdict::Refused(text) | Verdict::Unanswered(text) = verdict {
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let reason = lines.next_back().context("a refusal without a reason")?;
            // One of the kinds says it behind the names of its webhook and policy.
            let reason = reason.split_once(" failed: ").map_or(reason, |(_, reason)| reason);
            table.push_str(&format!(
                "  {:<24} {}\n",
                "",
                reason.chars().take(150).collect::<String>()
            ));
        }
    }
    print(&format!("\nVerdicts in namespace {NAMESPACE} after {VERSIONS} versions:\n{table}"));
    Ok(wrong)
}

async fn show(world: &World, steps: &[(String, Duration)]) -> Result<()> {
    print(&format!("\nkubectl get skr\n{}", world.kubectl(&["get", "skr"]).await?));
    print("\nHow long it took:\n");
    for (what, took) in steps {
        print(&format!("  {what:<32} {:>6.1} s\n", took.as_secs_f64()));
    }
    Ok(())
}

fn explain(world: &World) {
    let kind = Kind::under_test();
    print(&format!(
        "\nThe cluster and the operator run until you press Ctrl-C. In another terminal:\n\
         \n  export KUBECONFIG='{}' PATH='{}':'{}':\"$PATH\"\n\
         \n  kubectl get skr -o wide\
         \n  kubectl describe skr {RING}\
         \n  kubectl get {} {} -o yaml\
         \n  kubectl run app --image={}/checkout/app:v1 -n {NAMESPACE}     # refused\
         \n  kubectl annotate --overwrite skr {RING} signing.odj.cloud/rotate=again\n",
        world.info.kubeconfig.display(),
        tools::folder().join("bin").display(),
        tools::root().join("target/debug").display(),
        kind.resource(),
        kind.enforce(1),
        world.info.registry,
    ));
}

fn say(text: &str) {
    print(&format!("==> {text}\n"));
}

fn print(text: &str) {
    // A terminal that has gone away is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
