//! Certificates and kubeconfigs of the test cluster.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// The certificate authority of one cluster.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate as PEM.
    pub pem: String,
}

/// A certificate and its key, both as PEM.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// If the key or the certificate cannot be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("test-cluster", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// A server certificate for these names and addresses.
    ///
    /// # Errors
    /// If a name is none.
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name("server", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A client certificate: `user` in `group`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn client(&self, user: &str, group: &str) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, Some(group));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

fn name(common: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name
}

/// Writes the certificates that the control plane reads into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write_control_plane(authority: &Authority, folder: &Path) -> Result<()> {
    let server = authority.server(&["localhost", "127.0.0.1", "kubernetes", "10.0.0.1"])?;
    let admin = authority.client("admin", "system:masters")?;
    let accounts = KeyPair::generate()?;
    for (file, content) in [
        ("ca.crt", &authority.pem),
        ("server.crt", &server.certificate),
        ("server.key", &server.key),
        ("admin.crt", &admin.certificate),
        ("admin.key", &admin.key),
        ("accounts.key", &accounts.serialize_pem()),
        ("accounts.pub", &accounts.public_key_pem()),
    ] {
        fs::write(folder.join(file), content).with_context(|| format!("writing {file}"))?;
    }
    Ok(())
}

/// Writes what the programs of a node speak with: a kubeconfig of each.
///
/// # Errors
/// If a file cannot be written.
pub fn write_node(authority: &Authority, server: &str, folder: &Path, node: &str) -> Result<()> {
    let kubelet = authority.client(&format!("system:node:{node}"), "system:nodes")?;
    let scheduler = authority.client("system:kube-scheduler", "system:kube-scheduler")?;
    for (name, identity) in [("kubelet", kubelet), ("kube-scheduler", scheduler)] {
        for (end, content) in [
            ("crt", &identity.certificate),
            ("key", &identity.key),
            ("kubeconfig", &kubeconfig(server, folder, &Credential::Certificate(name))),
        ] {
            let file = folder.join(format!("{name}.{end}"));
            fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(())
}

/// Who a kubeconfig speaks for.
#[derive(Debug)]
pub enum Credential<'a> {
    /// Who the client certificate in the file of this name is for.
    Certificate(&'a str),
    /// A ServiceAccount's token.
    Token(&'a str),
}

/// The text of a kubeconfig for the cluster whose certificates are in `folder`.
#[must_use]
pub fn kubeconfig(server: &str, folder: &Path, credential: &Credential<'_>) -> String {
    let folder = folder.display();
    let user = match credential {
        Credential::Certificate(name) => {
            format!("{{client-certificate: {folder}/{name}.crt, client-key: {folder}/{name}.key}}")
        }
        Credential::Token(token) => format!("{{token: {token}}}"),
    };
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: '{server}', certificate-authority: {folder}/ca.crt}}}}]\n\
         users: [{{name: test, user: {user}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    )
}
