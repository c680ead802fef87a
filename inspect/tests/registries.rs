//! Registries that fail, each in its own way, and one that counts: nothing of that is a
//! verdict about signatures. What a real registry has is asked by e2e/tests/corpus.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use signingkeyring_inspect::{Image, Inspector, Limits, Outcome, PolicyKind, Refusal, Unreadable};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::sleep,
};

const DIGEST: &str = "sha256:2a25906fb263aedf21ade1c783372d8f7f57de1628110c7c589b4b9030812dce";

/// What a registry does with each request below a repository.
#[derive(Clone, Copy)]
enum Answers {
    Status(u16),
    /// So many bytes, and no end that was announced.
    Bytes(usize),
    /// That there is nothing, to who has a password.
    ToPuller,
    /// The same to who has a token, which is got with a password.
    ToBearer,
    Never,
}

/// A registry that answers so, and how often it was asked.
async fn registry(answers: Answers) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("localhost:{}", listener.local_addr().unwrap().port());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(connection, answers, count.clone()));
        }
    });
    (name, asked)
}

/// What who has the password says: `puller:of-no-worth`.
const BASIC: &str = "Basic cHVsbGVyOm9mLW5vLXdvcnRo";

async fn answer(connection: TcpStream, answers: Answers, asked: Arc<AtomicUsize>) {
    let mut connection = BufReader::new(connection);
    let (mut request, mut line) = (String::new(), String::new());
    while connection.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        request.push_str(&line);
        line.clear();
    }
    let head = |status: u16| format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    let empty = |status: u16| format!("{}Content-Length: 0\r\n\r\n", head(status)).into_bytes();
    let authorization = request.lines().find_map(|line| line.strip_prefix("authorization: "));
    let challenge = |how: &str| {
        format!("{}WWW-Authenticate: {how}\r\nContent-Length: 0\r\n\r\n", head(401)).into_bytes()
    };
    let text = match answers {
        Answers::ToPuller if authorization != Some(BASIC) => challenge("Basic realm=\"x\""),
        Answers::ToPuller => empty(404),
        Answers::ToBearer if request.starts_with("GET /token") => {
            let token = if authorization == Some(BASIC) { "good" } else { "bad" };
            format!("{}\r\n{{\"token\": \"{token}\"}}", head(200)).into_bytes()
        }
        Answers::ToBearer if authorization != Some("Bearer good") => {
            let host = request.lines().find_map(|line| line.strip_prefix("host: "));
            let host = host.unwrap_or_default();
            challenge(&format!("Bearer realm=\"http://{host}/token\",service=\"x\""))
        }
        Answers::ToBearer => empty(404),
        _ if request.starts_with("GET /v2/ ") => empty(200),
        Answers::Status(status) => empty(status),
        Answers::Bytes(bytes) => {
            [format!("{}\r\n", head(200)).into_bytes(), vec![b' '; bytes]].concat()
        }
        Answers::Never => return sleep(Duration::from_secs(60)).await,
    };
    if !request.starts_with("GET /v2/ ") {
        asked.fetch_add(1, Ordering::Relaxed);
    }
    let _ = connection.write_all(&text).await;
    let _ = connection.shutdown().await;
}

fn limits() -> Limits {
    let request = Duration::from_secs(3);
    Limits { request, manifest_bytes: 10_000, ..Limits::default() }
}

/// What both kinds make of an image by its digest.
async fn unreadable(registry: &str) -> [Unreadable; 2] {
    let inspector = Inspector::new(limits()).unwrap();
    let image = Image::parse(&format!("{registry}/a/b@{DIGEST}")).unwrap();
    let found = inspector.inspect(&image).await;
    PolicyKind::ALL.map(|kind| match found.judge(kind, "shop", &[]).outcome {
        Outcome::Unknown(why) => why,
        other => panic!("{registry}: {kind:?}: {other:?}"),
    })
}

#[tokio::test]
async fn what_fails_says_nothing_of_signatures() {
    let (failing, asked) = registry(Answers::Status(503)).await;
    for why in unreadable(&failing).await {
        assert!(matches!(why, Unreadable::Failed { status: 503, .. }), "{why}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 9, "each of three requests is tried three times");
    let (denying, _) = registry(Answers::Status(401)).await;
    for why in unreadable(&denying).await {
        assert!(matches!(why, Unreadable::Denied { .. }), "{why}");
    }
    let (large, _) = registry(Answers::Bytes(10_001)).await;
    for why in unreadable(&large).await {
        assert!(matches!(why, Unreadable::TooLarge { .. }), "{why}");
    }
    let (empty, _) = registry(Answers::Bytes(10)).await;
    for why in unreadable(&empty).await {
        assert!(matches!(why, Unreadable::Malformed { .. }), "{why}");
    }
    for why in unreadable("localhost:9").await {
        assert!(matches!(why, Unreadable::Unreachable { .. }), "{why}");
    }
    let (mute, _) = registry(Answers::Never).await;
    for why in unreadable(&mute).await {
        assert!(matches!(why, Unreadable::Slow { .. }), "{why}");
    }
}

#[tokio::test]
async fn an_image_that_is_asked_for_by_many_is_looked_at_once() {
    let (registry, asked) = registry(Answers::Status(404)).await;
    let inspector = Inspector::new(limits()).unwrap();
    let image = |tag: &str| Image::parse(&format!("{registry}/a/b{tag}@{DIGEST}")).unwrap();
    let images = [image(""), image(":v1"), image(":v2")];
    let many = images.iter().cycle().take(60).map(|image| inspector.inspect(image));
    for (found, image) in join_all(many).await.iter().zip(images.iter().cycle()) {
        assert_eq!(found.image, *image);
    }
    assert_eq!(inspector.inspections(), 1);
    // The image, its `.sig` tag, the list of referrers and the tag in its place.
    assert_eq!(asked.load(Ordering::Relaxed), 4);

    let all: Vec<_> = inspector.inspect_all(images).collect().await;
    assert_eq!((all.len(), inspector.inspections()), (3, 1));
}

/// What a registry that asks who one is lets one see, in a word.
async fn seen(answers: Answers, config: &Path) -> &'static str {
    let (registry, _) = registry(answers).await;
    let logins = fs::read_to_string(config).unwrap().replace("REGISTRY", &registry);
    let config = config.with_file_name(format!("{}.json", registry.replace(':', "-")));
    fs::write(&config, logins).unwrap();
    let inspector = Inspector::with_docker_config(limits(), config).unwrap();
    let image = Image::parse(&format!("{registry}/a/b@{DIGEST}")).unwrap();
    let found = inspector.inspect(&image).await;
    match found.judge(PolicyKind::ClusterPolicy, "shop", &[]).outcome {
        Outcome::Refused(Refusal::Unsigned) => "nothing",
        Outcome::Unknown(Unreadable::Denied { .. }) => "denied",
        other => panic!("{other:?}"),
    }
}

/// By docker's configuration, and by a program that it names. That is looked for by PATH,
/// so this test calls itself with another one.
#[test]
fn who_one_is_says_docker() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if env::var_os("WITH_HELPER").is_none() {
        let helper = folder.join("docker-credential-test");
        let answer = r#"{"Username": "puller", "Secret": "of-no-worth"}"#;
        fs::write(&helper, format!("#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
        let this = env::current_exe().unwrap();
        let again = Command::new(this)
            .args(["--exact", "who_one_is_says_docker"])
            .envs([("WITH_HELPER", "1"), ("PATH", &path)])
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        return;
    }
    let rows = [
        (r#"{"auths": {"REGISTRY": {"auth": "cHVsbGVyOm9mLW5vLXdvcnRo"}}}"#, "nothing"),
        (r#"{"auths": {"REGISTRY": {"username": "puller", "password": "wrong"}}}"#, "denied"),
        (r#"{"credHelpers": {"REGISTRY": "test"}}"#, "nothing"),
        (r#"{"credHelpers": {"REGISTRY": "missing"}}"#, "denied"),
        (r#"{"credsStore": "test"}"#, "nothing"),
        ("{}", "denied"),
        ("no JSON", "denied"),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (at, (config, expected)) in rows.into_iter().enumerate() {
        let file = folder.join(format!("config-{at}.json"));
        fs::write(&file, config).unwrap();
        for answers in [Answers::ToPuller, Answers::ToBearer] {
            assert_eq!(runtime.block_on(seen(answers, &file)), expected, "{config}");
        }
    }
}
