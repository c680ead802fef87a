//! A Prometheus that scrapes an operator's process.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    components::tail,
    tools,
    world::{World, wait_until},
};

/// Whom it asks for metrics, at a loopback port.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Who tells everybody.
    Open(u16),
    /// Who tells by HTTPS, and whom it allows to read them.
    Secured {
        /// The port.
        port: u16,
        /// The name in its certificate.
        name: &'a str,
        /// The file with the authority of its certificate.
        authority: &'a Path,
        /// The file with the token to show.
        token: &'a Path,
    },
}

impl Target<'_> {
    /// What of Prometheus' is called by this.
    fn folder(&self) -> &'static str {
        match self {
            Self::Open(_) => "prometheus",
            Self::Secured { .. } => "prometheus-secured",
        }
    }

    /// As Prometheus' configuration has it.
    fn job(&self) -> String {
        let (port, how) = match self {
            Self::Open(port) => (port, String::new()),
            Self::Secured { port, name, authority, token } => {
                let [authority, token] = [authority, token].map(|file| file.display());
                let how = format!(
                    "  scheme: https\n  authorization: {{credentials_file: '{token}'}}\n  \
                     tls_config: {{ca_file: '{authority}', server_name: '{name}'}}\n"
                );
                (port, how)
            }
        };
        let targets = format!("static_configs: [{{targets: ['127.0.0.1:{port}']}}]");
        format!("- job_name: operator\n{how}  {targets}\n")
    }
}

/// A running Prometheus; it ends with this value.
#[derive(Debug)]
pub struct Prometheus {
    world: World,
    url: String,
    /// Its log.
    pub log: PathBuf,
    _child: Child,
}

impl Prometheus {
    /// Starts one that asks for metrics each second and judges rules as often; returns once it has an answer.
    ///
    /// # Errors
    /// If it has none in time; the text has the end of its log.
    pub async fn start(world: &World, target: Target<'_>, rules: &Path) -> Result<Self> {
        let folder = world.info.folder.join(target.folder());
        fs::create_dir_all(&folder)?;
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n{}",
            rules.display(),
            target.job()
        );
        fs::write(folder.join("prometheus.yaml"), config)?;
        let own = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = world.info.folder.join(format!("{}.log", target.folder()));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(tools::program("prometheus")?)
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={own}"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("starting prometheus")?;
        let prometheus =
            Self { world: world.clone(), url: format!("http://{own}"), log, _child: child };
        let scrapes = wait_until("prometheus has metrics", async || {
            Ok(!prometheus.query("up == 1").await?.is_empty())
        });
        if let Err(error) = scrapes.await {
            bail!("{error:#}\n{}", tail(&prometheus.log));
        }
        Ok(prometheus)
    }

    /// What an expression comes to now: the labels and the value of each series.
    ///
    /// # Errors
    /// If it is no expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let query = ["query", "instant", "--format=json", &self.url, expression];
        let answer = self.world.run("promtool", &query, &[], "").await?;
        serde_json::from_str(&answer).with_context(|| format!("{expression}: {answer}"))
    }

    /// Waits until an alert fires with these labels, such as `ring="checkout"`.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn wait_until_fires(&self, alert: &str, labels: &str) -> Result<()> {
        let firing = format!("ALERTS{{alertstate=\"firing\",alertname=\"{alert}\",{labels}}}");
        wait_until(&firing, async || Ok(!self.query(&firing).await?.is_empty())).await
    }

    /// The alerts that fire, by their names.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn firing(&self) -> Result<Vec<String>> {
        let firing = self.query("ALERTS{alertstate=\"firing\"}").await?;
        let names = firing.iter().filter_map(|alert| alert["metric"]["alertname"].as_str());
        Ok(names.map(str::to_owned).collect())
    }
}
