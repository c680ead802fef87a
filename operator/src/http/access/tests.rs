//! Whom the cluster lets in, and what is kept of its answers.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

const SECRET: &str = "eyJhbGciOiJSUzI1NiJ9.of-nobody.else";

fn headers(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())])
}

/// What an API server answers to a review.
type Server = fn(&Value) -> (StatusCode, String);

/// Counts what an API server was asked, which answers as this says.
fn access(server: Server) -> (Access, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let (code, answer) = server(&serde_json::from_slice(&body).unwrap());
            Ok::<_, std::convert::Infallible>(
                Response::builder().status(code).body(Body::from(answer.into_bytes())).unwrap(),
            )
        }
    });
    (Access::new(Client::new(service, "default"), "/metrics"), asked)
}

/// A cluster in which the token "reader" is of one who may, "tenant" of one who may not,
/// and others of nobody.
fn cluster(review: &Value) -> (StatusCode, String) {
    let mut answer = review.clone();
    answer["status"] = match review["kind"].as_str() {
        Some("TokenReview") => match review["spec"]["token"].as_str() {
            Some(name @ ("reader" | "tenant")) => json!({
                "authenticated": true,
                "user": {"username": name, "groups": ["all"], "extra": {"pod": ["p"]}},
            }),
            _ => json!({"error": "no such token"}),
        },
        _ => {
            let path = json!({"path": "/metrics", "verb": "get"});
            assert_eq!(review["spec"]["nonResourceAttributes"], path);
            assert_eq!(review["spec"]["groups"], json!(["all"]));
            assert_eq!(review["spec"]["extra"], json!({"pod": ["p"]}));
            json!({"allowed": review["spec"]["user"] == "reader"})
        }
    };
    (StatusCode::CREATED, answer.to_string())
}

#[tokio::test(start_paused = true)]
async fn the_cluster_says_who_may_and_is_not_asked_again_at_once() {
    let (access, asked) = access(cluster);
    let count = || asked.load(Ordering::Relaxed);
    for (token, answer, questions) in [
        ("reader", Answer::Allowed, 2),
        ("tenant", Answer::Forbidden, 2),
        ("stranger", Answer::Unauthorized, 1),
    ] {
        let before = count();
        for _ in 0..2 {
            assert_eq!(access.judge(&headers(&format!("Bearer {token}"))).await, answer);
            assert_eq!(count(), before + questions, "{token}");
        }
    }
    let before = count();
    tokio::time::advance(ALLOWED_FOR).await;
    assert_eq!(access.judge(&headers("Bearer reader")).await, Answer::Allowed);
    assert_eq!(count(), before + 2, "what was said a minute ago does not count");
}

#[tokio::test]
async fn who_shows_no_token_is_nobody_and_is_not_asked_about() {
    let (access, asked) = access(cluster);
    let long = format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1));
    for none in ["", "reader", "Basic reader", "Bearer", "Bearer  ", &long] {
        assert_eq!(access.judge(&headers(none)).await, Answer::Unauthorized, "{none:?}");
    }
    assert_eq!(access.judge(&HeaderMap::new()).await, Answer::Unauthorized);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(access.judge(&headers("bearer reader")).await, Answer::Allowed);
}

/// What is logged meanwhile, of all levels.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn where_the_cluster_does_not_say_nobody_is_let_in_and_no_token_is_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let servers: [Server; 6] = [
        |review| (StatusCode::CREATED, format!("{review} and more")),
        |review| {
            let mut wrong = review.clone();
            wrong["status"] = json!({"authenticated": "yes"});
            (StatusCode::CREATED, wrong.to_string())
        },
        |_| (StatusCode::INTERNAL_SERVER_ERROR, "it is broken".to_owned()),
        |review| (StatusCode::INTERNAL_SERVER_ERROR, review.to_string()),
        |review| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "code": 500, "message": format!("not {review}")});
            (StatusCode::INTERNAL_SERVER_ERROR, status.to_string())
        },
        |_| {
            let why = "the operator may not create tokenreviews";
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "code": 403, "reason": "Forbidden", "message": why});
            (StatusCode::FORBIDDEN, status.to_string())
        },
    ];
    for server in servers {
        let (access, asked) = access(server);
        for count in 1..3 {
            let answer = access.judge(&headers(&format!("Bearer {SECRET}"))).await;
            assert_eq!(answer, Answer::Unknown);
            assert_eq!(asked.load(Ordering::Relaxed), count, "that is not remembered");
        }
    }
    let logged = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(logged.contains("may not create tokenreviews"), "{logged}");
    assert!(logged.contains("manifests/secure-metrics"), "{logged}");
    assert!(!logged.contains(SECRET), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_again_and_again_pushes_out_nobody_who_is_let_in() {
    let mut answers = Answers::default();
    let now = Instant::now();
    answers.put([0; 32], Answer::Allowed, now);
    for stranger in 1..=u8::MAX {
        answers.put([stranger; 32], Answer::Unauthorized, now);
    }
    assert_eq!(answers.0.len(), ANSWERS);
    assert_eq!(answers.get(&[0; 32], now), Some(Answer::Allowed));
    assert_eq!(answers.get(&[u8::MAX; 32], now), Some(Answer::Unauthorized));
    assert_eq!(answers.get(&[u8::MAX; 32], now + REFUSED_FOR), None);
    answers.put([1; 32], Answer::Unauthorized, now + REFUSED_FOR);
    assert_eq!(answers.0.len(), 2, "what does not count any more is not kept");
}
