//! Metrics by HTTPS, for those alone to whom the API server allows them: a standby beside the
//! operator serves them so, with the rights of its ServiceAccount.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client, StatusCode};
use signingkeyring_e2e_testbed::{
    operator::{Installed, Operator, Way},
    pki::Authority,
    prometheus::{Prometheus, Target},
    tools,
    world::{World, wait_until},
};

/// The name in the certificate, where who may read metrics is, and who may not.
const NAME: &str = "metrics.test";
const NAMESPACE: &str = "observers";
const READER: &str = "prometheus";
const TENANT: &str = "tenant";

const RIGHTS: &str = "manifests/secure-metrics/role.yaml";

/// Writes a certificate of a new authority into a folder; returns the authority's.
fn certify(folder: &Path) -> Result<String> {
    let authority = Authority::new()?;
    let identity = authority.server(&[NAME])?;
    fs::write(folder.join("tls.key"), identity.key)?;
    fs::write(folder.join("tls.crt"), identity.certificate)?;
    Ok(authority.pem)
}

/// Who asks, and trusts certificates of one authority alone.
struct Asking {
    client: Client,
    address: SocketAddr,
}

impl Asking {
    fn new(port: u16, authority: &str) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(authority.as_bytes())?])
            .resolve(NAME, address)
            .build()?;
        Ok(Self { client, address })
    }

    /// What comes of it, and what is said.
    async fn ask(&self, token: Option<&str>) -> Result<(StatusCode, String)> {
        let url = format!("https://{NAME}:{}/metrics", self.address.port());
        let request = self.client.get(url);
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}

pub async fn metrics_are_for_who_may_read_them(
    world: &World,
    guard: &Path,
    installed: &Installed,
    rules: &Path,
) -> Result<()> {
    let start = Instant::now();
    // Another one of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = world.info.folder.join("metrics-certificate");
    fs::create_dir(&folder)?;
    let authority = certify(&folder)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = world.info.server.clone();
    let way = Way { name: "secured", server: &server };
    let arguments = [
        "--metrics-secure".to_owned(),
        format!("--metrics-bind-address={address}"),
        format!("--metrics-cert-path={}", folder.display()),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let program = tools::built("signingkeyring-operator")?;
    // That it is ready is asked for without a token, as a kubelet does.
    let operator = Operator::start_on(world, guard, &program, installed, way, &arguments).await?;
    ensure!(operator.metrics().await?.starts_with("HTTP/1.1 404"), "metrics are open");

    let namespace = format!("--namespace={NAMESPACE}");
    world.kubectl(&["create", "namespace", NAMESPACE]).await?;
    let mut tokens = Vec::new();
    for account in [READER, TENANT] {
        world.kubectl(&["create", "serviceaccount", account, &namespace]).await?;
        let token = world.kubectl(&["create", "token", account, &namespace]).await?;
        tokens.push(token.trim().to_owned());
    }
    let [reader, tenant] = [tokens[0].as_str(), tokens[1].as_str()];
    let asking = Asking::new(address.port(), &authority)?;
    let (status, said) = asking.ask(Some(reader)).await?;
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "it may not ask: {status} {said}");
    let log = fs::read_to_string(&operator.log)?;
    ensure!(log.contains("manifests/secure-metrics"), "it does not say what it lacks: {log}");

    let rights = format!("--filename={}", tools::root().join(RIGHTS).display());
    world.kubectl(&["apply", &rights]).await?;
    let account = format!("--serviceaccount={NAMESPACE}:{READER}");
    let role = "--clusterrole=signingkeyring-metrics-reader";
    world.kubectl(&["create", "clusterrolebinding", "observers", role, &account]).await?;
    wait_until("who may read metrics does", async || {
        Ok(asking.ask(Some(reader)).await?.0 == StatusCode::OK)
    })
    .await?;
    let (_, metrics) = asking.ask(Some(reader)).await?;
    ensure!(metrics.contains("signingkeyring_leader 0"), "{metrics}");
    let forged = format!("{}x", reader.get(..reader.len() - 8).context("a short token")?);
    for (token, refusal) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some(forged.as_str()), StatusCode::UNAUTHORIZED),
        (Some(tenant), StatusCode::FORBIDDEN),
    ] {
        let (status, said) = asking.ask(token).await?;
        ensure!(status == refusal, "{status} and not {refusal}: {said}");
        ensure!(!said.contains("signingkeyring_"), "{said}");
    }

    // Its certificate is another one's from now on, as cert-manager replaces it.
    let authority = certify(&folder)?;
    let asking = Asking::new(address.port(), &authority)?;
    wait_until("it shows the new certificate", async || Ok(asking.ask(Some(reader)).await.is_ok()))
        .await?;
    let [authority_file, token_file] =
        ["metrics-ca.crt", "metrics-token"].map(|name| world.info.folder.join(name));
    fs::write(&authority_file, authority)?;
    fs::write(&token_file, reader)?;
    let target = Target::Secured {
        port: address.port(),
        name: NAME,
        authority: &authority_file,
        token: &token_file,
    };
    drop(Prometheus::start(world, target, rules).await?);
    let log = fs::read_to_string(&operator.log)?;
    ensure!(!log.contains(reader) && !log.contains(tenant), "a token is in the log");
    ensure!(operator.stop().await? == Some(0));
    println!("metrics by HTTPS: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
