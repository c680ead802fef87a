//! What the demo and the tests do in a cluster: apply manifests, push and sign
//! images, ask for admission, run the operator.

use std::{
    fs::{self, File},
    future::Future,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{
    cluster::client,
    components::tail,
    pki::{Credential, kubeconfig},
    supervisor::Info,
    tools,
};

/// How long anything may take before a test fails. Generous: the machine may
/// be busy, and nothing waits this long when all is well.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// A cluster as its administrator uses it.
#[derive(Clone, Debug)]
pub struct World {
    /// The cluster.
    pub info: Info,
}

/// What the API server said of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would run.
    Admitted,
    /// It would not, and this is what its owner reads.
    Refused(String),
}

impl World {
    /// The administrator's client.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        client(&self.info.kubeconfig).await
    }

    /// Runs a program of the cluster as its administrator.
    ///
    /// # Errors
    /// If it fails; the text is what it printed.
    pub async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Result<String> {
        let mut child = Command::new(tools::program(program)?)
            .args(arguments)
            // What the caller's shell says of passwords and keys is not meant.
            .env_remove("COSIGN_PASSWORD")
            .env("KUBECONFIG", &self.info.kubeconfig)
            .envs(environment.iter().copied())
            .current_dir(tools::root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // A program that does not read its input may close it early.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {text}{error}", arguments.join(" "));
        Ok(text)
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments, &[], "").await
    }

    /// Applies YAML.
    ///
    /// # Errors
    /// If the API server refuses; the text is its.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.run("kubectl", &arguments, &[], yaml).await
    }

    /// Installs the operator's manifests, as a cluster's administrator does.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn install(&self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        // The first time, the CRDs may not be served yet when the list comes.
        while let Err(error) = self.kubectl(&["apply", "--kustomize=manifests"]).await {
            ensure!(Instant::now() < deadline, "installing: {error:#}");
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// A field of an object, empty if it is not there.
    ///
    /// # Errors
    /// If the object cannot be read.
    pub async fn get(&self, object: &[&str], path: &str) -> Result<String> {
        let output = format!("--output=jsonpath={path}");
        let mut arguments = vec!["get"];
        arguments.extend(object);
        arguments.push(&output);
        self.kubectl(&arguments).await
    }

    /// A field of a ring.
    ///
    /// # Errors
    /// If the ring cannot be read.
    pub async fn ring(&self, ring: &str, path: &str) -> Result<String> {
        self.get(&["skr", ring], path).await
    }

    /// A ring's condition as `Status Reason Message`.
    ///
    /// # Errors
    /// If the ring cannot be read.
    pub async fn condition(&self, ring: &str, kind: &str) -> Result<String> {
        let of = |field: &str| format!("{{.status.conditions[?(@.type==\"{kind}\")].{field}}}");
        self.ring(ring, &format!("{} {} {}", of("status"), of("reason"), of("message"))).await
    }

    /// Waits until a ring's field is `wanted`.
    ///
    /// # Errors
    /// If it does not become so in time; the text has the ring's status.
    pub async fn wait_for_field(&self, ring: &str, path: &str, wanted: &str) -> Result<()> {
        let what = format!("ring {ring}: {path} = {wanted}");
        let found = wait_until(&what, async || {
            let found = self.ring(ring, path).await?;
            Ok(found == wanted)
        });
        self.explain(ring, found.await).await
    }

    /// Waits until a ring's condition begins with `wanted`, such as
    /// `False GateOpen`.
    ///
    /// # Errors
    /// If it does not become so in time; the text has the ring's status.
    pub async fn wait_for_condition(&self, ring: &str, kind: &str, wanted: &str) -> Result<String> {
        let what = format!("ring {ring}: {kind} = {wanted}");
        let found =
            wait_until(&what, async || Ok(self.condition(ring, kind).await?.starts_with(wanted)));
        self.explain(ring, found.await).await?;
        self.condition(ring, kind).await
    }

    async fn explain(&self, ring: &str, result: Result<()>) -> Result<()> {
        if let Err(error) = result {
            let status = self.ring(ring, "{.status}").await.unwrap_or_default();
            bail!("{error:#}\nstatus: {status}");
        }
        Ok(())
    }

    /// Asks for a rotation and waits until its version signs.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn rotate(&self, ring: &str, token: &str) -> Result<()> {
        self.ask_for_rotation(ring, token).await?;
        self.wait_for_field(ring, "{.status.observedRotation}", token).await
    }

    /// Asks for a rotation.
    ///
    /// # Errors
    /// If the ring cannot be annotated.
    pub async fn ask_for_rotation(&self, ring: &str, token: &str) -> Result<()> {
        let annotation = format!("signing.odj.cloud/rotate={token}");
        self.kubectl(&["annotate", "--overwrite", "skr", ring, &annotation]).await?;
        Ok(())
    }

    /// Pushes an image with content of its own; returns its reference by digest.
    ///
    /// # Errors
    /// If the registry refuses.
    pub async fn push(&self, repository: &str, tag: &str) -> Result<String> {
        let name = format!("{}/{repository}", self.info.registry);
        let layer =
            self.info.folder.join(format!("layer-{}-{tag}.tar", repository.replace('/', "-")));
        fs::write(&layer, tar(&format!("{repository}:{tag}")))?;
        let layer_name = layer.display().to_string();
        let target = format!("{name}:{tag}");
        let append =
            ["append", "--oci-empty-base", "--new_layer", &layer_name, "--new_tag", &target];
        let digest = self.run("crane", &append, &[], "").await?;
        fs::remove_file(&layer)?;
        let digest = digest.trim().rsplit_once('@').context("no digest")?.1.to_owned();
        Ok(format!("{name}@{digest}"))
    }

    /// Signs an image as a pipeline does, with the key in a Secret.
    ///
    /// # Errors
    /// If cosign does not.
    pub async fn sign(&self, image: &str, secret: &str) -> Result<()> {
        let key = format!("k8s://{secret}");
        self.sign_with(image, &key, &[]).await
    }

    /// Signs an image with a key as cosign names it.
    ///
    /// # Errors
    /// If cosign does not.
    pub async fn sign_with(
        &self,
        image: &str,
        key: &str,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let arguments = [
            "sign",
            "--yes",
            "--key",
            key,
            "--new-bundle-format=false",
            "--use-signing-config=false",
            "--tlog-upload=false",
            image,
        ];
        self.run("cosign", &arguments, environment, "").await?;
        Ok(())
    }

    /// Asks whether a Pod of an image may run in a namespace. Nothing is created.
    ///
    /// # Errors
    /// If something other than a verdict came.
    pub async fn admit(&self, namespace: &str, image: &str) -> Result<Verdict> {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{generateName: probe-, namespace: {namespace}}}, \
             spec: {{containers: [{{name: app, image: '{image}'}}]}}}}"
        );
        let create = ["create", "--dry-run=server", "--filename=-"];
        match self.run("kubectl", &create, &[], &pod).await {
            Ok(_) => Ok(Verdict::Admitted),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(
                    text.contains("denied the request") || text.contains("failed calling webhook"),
                    "no verdict: {text}"
                );
                Ok(Verdict::Refused(text))
            }
        }
    }

    /// Waits until an image is admitted.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn wait_until_admitted(&self, namespace: &str, image: &str) -> Result<()> {
        wait_until(&format!("{image} admitted in {namespace}"), async || {
            Ok(self.admit(namespace, image).await? == Verdict::Admitted)
        })
        .await
    }

    /// Waits until an image is refused.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn wait_until_refused(&self, namespace: &str, image: &str) -> Result<()> {
        wait_until(&format!("{image} refused in {namespace}"), async || {
            Ok(matches!(self.admit(namespace, image).await?, Verdict::Refused(_)))
        })
        .await
    }

    /// Creates an enrolled namespace, a pipeline namespace that grants access,
    /// and a ring with a short soak. Returns once the ring is ready.
    ///
    /// # Errors
    /// If it does not become ready in time.
    pub async fn ready_ring(&self, ring: &str) -> Result<()> {
        self.apply(&namespaces(ring)).await?;
        self.apply(&manifest(ring, "")).await?;
        self.wait_for_condition(ring, "Ready", "True").await?;
        Ok(())
    }
}

/// The namespaces of a ring: `NAME-dev` enrolled, `NAME-ci` with consent.
#[must_use]
pub fn namespaces(ring: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ring}-dev, labels: \
         {{signing.odj.cloud/ring: {ring}}}}}}}\n---\n\
         {{apiVersion: v1, kind: Namespace, metadata: {{name: {ring}-ci}}}}\n---\n{}",
        consent(&format!("{ring}-ci"))
    )
}

/// What a pipeline namespace's owner applies.
#[must_use]
pub fn consent(namespace: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
         metadata: {{name: signingkeyring-pipeline, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: signingkeyring-pipeline}}\n\
         subjects: [{{kind: ServiceAccount, name: signingkeyring-operator, namespace: signing-system}}]\n"
    )
}

/// A ring's manifest: pipeline `NAME-ci/image-signing`, a soak of one second,
/// and more lines of the spec.
#[must_use]
pub fn manifest(ring: &str, more: &str) -> String {
    format!(
        "apiVersion: signing.odj.cloud/v1alpha1\nkind: SigningKeyRing\nmetadata: {{name: {ring}}}\n\
         spec:\n  rotation: {{soak: 1s}}\n  pipelines: [{{namespace: {ring}-ci}}]\n{more}"
    )
}

/// Waits until something holds.
///
/// # Errors
/// If it does not within [`DEADLINE`]; the text says what was waited for and
/// the last error.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = None;
    loop {
        match holds().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
        if Instant::now() > deadline {
            let last = last.map(|error| format!(" (last error: {error:#})")).unwrap_or_default();
            bail!("waited {} s for: {what}{last}", DEADLINE.as_secs());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// How long something took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    (result, start.elapsed())
}

/// The operator's process, with its own ServiceAccount's rights.
#[derive(Debug)]
pub struct Operator {
    /// Ends the operator when its standard input closes.
    guard: Child,
    /// Its log.
    pub log: PathBuf,
    /// Where it serves health and metrics.
    pub port: u16,
}

impl Operator {
    /// Starts the operator and waits until it is ready.
    ///
    /// # Errors
    /// If it is not; the text has the end of its log.
    pub async fn start(
        world: &World,
        guard: &Path,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let account = [
            "create",
            "token",
            "signingkeyring-operator",
            "--namespace=signing-system",
            "--duration=8h",
        ];
        let token = world.kubectl(&account).await?;
        let folder = &world.info.folder;
        let credential = Credential::Token(token.trim());
        let path = folder.join("operator.kubeconfig");
        fs::write(&path, kubeconfig(&world.info.server, folder, &credential))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = folder.join("operator.log");
        let file = File::options().create(true).append(true).open(&log)?;
        let guard = Command::new(guard)
            .arg("guard")
            .arg(program)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .env("KUBECONFIG", &path)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let operator = Self { guard, log, port };
        let ready = wait_until("the operator is ready", async || {
            Ok(http_get(port, "/readyz").await?.starts_with("HTTP/1.1 200"))
        });
        if let Err(error) = ready.await {
            bail!("{error:#}\n{}", tail(&operator.log));
        }
        Ok(operator)
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        drop(self.guard.stdin.take());
        self.guard.wait().await?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and returns its exit code.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn stop(mut self) -> Result<Option<i32>> {
        // Waiting would close it, which ends the operator the hard way.
        let mut stdin = self.guard.stdin.take().context("it has ended already")?;
        stdin.write_all(b"term\n").await?;
        let status = tokio::time::timeout(DEADLINE, self.guard.wait()).await;
        Ok(status.context("it does not end")??.code())
    }

    /// What `/metrics` shows.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        http_get(self.port, "/metrics").await
    }

    /// Waits for its end, however it comes.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn wait(&mut self) -> Result<()> {
        self.guard.wait().await?;
        Ok(())
    }
}

/// A plain HTTP request to a loopback port; returns the whole answer.
///
/// # Errors
/// If nobody answers.
async fn http_get(port: u16, path: &str) -> Result<String> {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A tar archive of one small file (POSIX ustar).
fn tar(content: &str) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "content");
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend(content.as_bytes());
    archive.resize(archive.len().div_ceil(512) * 512 + 1024, 0);
    archive
}
