//! Which certificate a client is shown.

use axum::{Router, routing::get};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::{super::secure, *};

/// Writes a certificate for this name into a folder, and returns it.
fn write(folder: &Path, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(folder.join(CERTIFICATE), made.cert.pem()).unwrap();
    fs::write(folder.join(KEY), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("signing-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn shown(certificate: &Certificate) -> Vec<CertificateDer<'static>> {
    certificate.shown.read().cert.clone()
}

#[test]
fn what_is_written_into_the_folder_is_shown_and_what_is_broken_is_not() {
    let folder = folder("certificate");
    let first = write(&folder, "first");
    let certificate = Certificate::open(Some(&folder)).unwrap();
    assert_eq!(shown(&certificate), std::slice::from_ref(&first));

    let mut last = None;
    let second = write(&folder, "second");
    let key = fs::read(folder.join(KEY)).unwrap();
    for broken in ["", "-----BEGIN PRIVATE KEY-----\nnone\n-----END PRIVATE KEY-----\n"] {
        fs::write(folder.join(KEY), broken).unwrap();
        certificate.look(&folder, &mut last);
        assert_eq!(shown(&certificate), std::slice::from_ref(&first));
    }
    // Another one's key.
    fs::write(folder.join(KEY), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    certificate.look(&folder, &mut last);
    assert_eq!(shown(&certificate), std::slice::from_ref(&first));
    fs::remove_file(folder.join(KEY)).unwrap();
    certificate.look(&folder, &mut last);
    assert_eq!(shown(&certificate), [first]);
    fs::write(folder.join(KEY), key).unwrap();
    certificate.look(&folder, &mut last);
    assert_eq!(shown(&certificate), [second]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_a_certificate_in_its_folder_it_does_not_start() {
    let folder = folder("no-certificate");
    let error = Certificate::open(Some(&folder)).unwrap_err();
    assert!(format!("{error:#}").contains("tls.crt"), "{error:#}");
    fs::remove_dir_all(folder).unwrap();
}

/// Asks by HTTPS, and trusts this certificate alone.
async fn ask(port: u16, trusted: CertificateDer<'static>, name: &str) -> std::io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}

#[tokio::test]
async fn a_client_is_shown_the_certificate() {
    let certificate = Certificate::open(None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/", get(|| async { "hello\n" }));
    let serving = secure::serve(listener, certificate.server().unwrap(), router);
    let asking = async {
        let trusted = shown(&certificate)[0].clone();
        ask(port, trusted.clone(), NAME).await.unwrap();
        assert!(ask(port, trusted, "another").await.is_err());
        let other = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        assert!(ask(port, other.cert.der().clone(), NAME).await.is_err());
        // Who says nothing holds up nobody.
        let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        ask(port, shown(&certificate)[0].clone(), NAME).await.unwrap();
    };
    tokio::select! {
        never = serving => match never {},
        () = asking => {}
    }
}
