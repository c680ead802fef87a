//! Registries that fail, each in its own way, and one that counts: nothing of that is a
//! verdict about signatures. What a real registry has is asked by e2e/tests/corpus.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use signingkeyring_inspect::{Image, Inspector, Limits, Outcome, PolicyKind, Unreadable};
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

async fn answer(connection: TcpStream, answers: Answers, asked: Arc<AtomicUsize>) {
    let mut connection = BufReader::new(connection);
    let (mut request, mut line) = (String::new(), String::new());
    while connection.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        request.push_str(&line);
        line.clear();
    }
    let head = |status: u16| format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    let text = if request.starts_with("GET /v2/ ") {
        format!("{}Content-Length: 0\r\n\r\n", head(200)).into_bytes()
    } else {
        asked.fetch_add(1, Ordering::Relaxed);
        match answers {
            Answers::Status(status) => format!("{}Content-Length: 0\r\n\r\n", head(status)).into(),
            Answers::Bytes(bytes) => {
                [format!("{}\r\n", head(200)).into_bytes(), vec![b' '; bytes]].concat()
            }
            Answers::Never => return sleep(Duration::from_secs(60)).await,
        }
    };
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
