//! The HTTP transport below an operator's client: shows it its view, counts its
//! writes, and does to one of them what the run wants done.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, header, request::Parts};
use kube::{
    Client,
    client::{Body, retry::RetryPolicy},
};
use serde_json::Value;
use signingkeyring_e2e_observer::{
    marks::Marks,
    parse::{owner, public_key},
    soak::Answer,
};
use tokio::{sync::watch, time::Instant};
use tower::{BoxError, Layer, Service, retry::RetryLayer};

use super::{
    fault::{Fault, WriteFault},
    log::{Log, What},
    response::{ResponseBody, full, refused},
    view::{Target, View},
    watches::{WatchFaults, relay},
};

/// A question to the gate that takes so long is written down.
const PATIENCE: Duration = Duration::from_secs(4);

/// The transport below one operator's client.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    client: Client,
    view: View,
    who: String,
    log: Arc<Log>,
    armed: Mutex<Option<Armed>>,
    /// When questions passed whose answers are events, by the UID of the question.
    passed: Mutex<HashMap<String, Instant>>,
    watch_faults: Arc<WatchFaults>,
    fired: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Armed {
    fault: Fault,
    writes: usize,
}

impl Transport {
    /// A transport to the cluster of `client`, without a fault. `who` names the
    /// operator in the log.
    #[must_use]
    pub fn new(client: Client, view: View, who: &str, log: Arc<Log>) -> Self {
        Self(Arc::new(Inner {
            client,
            view,
            who: who.to_owned(),
            log,
            armed: Mutex::new(None),
            passed: Mutex::default(),
            watch_faults: Arc::default(),
            fired: watch::Sender::new(false),
            released: watch::Sender::new(false),
        }))
    }

    /// The operator's client. What kube retries by itself is retried here too.
    #[must_use]
    pub fn client(&self) -> Client {
        let service = RetryLayer::new(RetryPolicy::server_retry()).layer(self.clone());
        Client::new(service, "default")
    }

    /// From now on writes are counted and the fault is waiting.
    pub fn arm(&self, fault: Fault) {
        *self.armed() = Some(Armed { fault, writes: 0 });
        if let Fault::Read(fault) = fault {
            self.0.watch_faults.arm(fault);
        }
    }

    /// The writes since it was armed.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.armed().map_or(0, |armed| armed.writes)
    }

    /// Waits until the fault at a write has come.
    pub async fn fired(&self) {
        // The sender lives as long as this value.
        let _ = self.0.fired.subscribe().wait_for(|fired| *fired).await;
    }

    /// Whether the fault at a write has come.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        *self.0.fired.borrow()
    }

    /// Whether a fault of the watches has come.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.0.watch_faults.has_struck()
    }

    /// Lets the writes go on that a second replica was to overtake.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.0.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that this write meets.
    fn count(&self) -> Option<WriteFault> {
        let mut armed = self.armed();
        let armed = armed.as_mut()?;
        armed.writes += 1;
        match armed.fault {
            Fault::Write(fault, at) if at == armed.writes => Some(fault),
            _ => None,
        }
    }

    /// Holds what comes after the fault: for ever after a crash, until the
    /// second replica is done otherwise.
    async fn hold(&self) {
        if self.has_fired() {
            let _ = self.0.released.subscribe().wait_for(|released| *released).await;
        }
    }

    async fn handle(self, request: Request<Body>) -> Result<Response<ResponseBody>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let target = Target::of(&parts.uri);
        let body = body.collect_bytes().await?;
        let body = self.0.view.body(&target, &body);
        parts.uri = self.0.view.uri(&parts.uri, &target)?;
        parts.headers.remove(header::CONTENT_LENGTH);
        let reads = parts.method == Method::GET;
        if reads || target.dry_run || target.resource == "events" {
            let answer = self.send(parts, body, &target).await?;
            return Ok(answer);
        }
        self.write(parts, body, &target).await
    }

    async fn write(
        &self,
        parts: Parts,
        body: Vec<u8>,
        target: &Target,
    ) -> Result<Response<ResponseBody>, BoxError> {
        self.hold().await;
        let request = format!("{} {}", parts.method, target.describe());
        let creates = parts.method == Method::POST;
        let note = |outcome: &str| {
            let what = What::Write { request: request.clone(), outcome: outcome.to_owned() };
            self.0.log.add(&self.0.who, what);
        };
        if let Some((ring, key)) = published(target, &body) {
            self.0.log.add(&self.0.who, What::Publishing { ring, key });
        }
        match self.count() {
            Some(WriteFault::CrashBefore) => {
                note("crash before");
                self.0.fired.send_replace(true);
                return std::future::pending().await;
            }
            Some(WriteFault::CrashAfter) => {
                let answer = self.send(parts, body, target).await?;
                note(&format!("{}, crash after", answer.status().as_u16()));
                self.0.fired.send_replace(true);
                return std::future::pending().await;
            }
            Some(WriteFault::TimeOut) => {
                let answer = self.send(parts, body, target).await?;
                note(&format!("{}, answer lost", answer.status().as_u16()));
                self.0.fired.send_replace(true);
                self.release();
                let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
                return Err(error.into());
            }
            Some(WriteFault::SecondReplica) => {
                note("held for the second replica");
                self.0.fired.send_replace(true);
                self.hold().await;
            }
            Some(refusal) => {
                note("refused by the fault layer");
                self.0.fired.send_replace(true);
                self.release();
                return Ok(refused(refusal, creates));
            }
            None => {}
        }
        let answer = self.send(parts, body, target).await?;
        note(answer.status().as_str());
        Ok(answer)
    }

    async fn send(
        &self,
        parts: Parts,
        body: Vec<u8>,
        target: &Target,
    ) -> Result<Response<ResponseBody>, BoxError> {
        let request = Request::from_parts(parts, Body::from(body));
        let asked = Instant::now();
        let question = target.dry_run.then(|| Question { transport: self, asked });
        let (mut parts, body) = self.0.client.send(request).await?.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        if target.watch && parts.status.is_success() {
            let view = self.0.view.clone();
            let rewrite = target.names_policies().then_some(view);
            let watch_faults = Arc::clone(&self.0.watch_faults);
            let body = relay(body, rewrite, watch_faults, &target.resource);
            return Ok(Response::from_parts(parts, body));
        }
        let mut body = body.collect_bytes().await?;
        drop(question);
        if target.dry_run {
            self.hear(asked, &body);
        } else if target.resource == "events" && target.name.is_empty() {
            self.hear_events(&body);
        }
        if target.names_policies() {
            body = Bytes::from(self.0.view.inward(&String::from_utf8_lossy(&body)));
        }
        Ok(Response::from_parts(parts, full(body)))
    }

    /// Writes down what the gate answered: with marks, or by a refusal of a question
    /// that has the name of what is loaded. One that passes may be answered by an event.
    fn hear(&self, asked: Instant, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = answer["message"].as_str().unwrap_or_default();
        if let Ok(marks) = Marks::of_answer(&answer) {
            self.heard(asked, Answer::Marks(marks));
        } else if let Some((_, name)) = message.split_once(" failed: ") {
            self.heard(asked, Answer::Question(name.to_owned()));
        } else if let Some(uid) = answer["metadata"]["uid"].as_str() {
            let mut passed = self.0.passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.insert(uid.to_owned(), asked);
        }
    }

    /// Writes down the answers among events: each is about the question that it answers.
    fn hear_events(&self, body: &[u8]) {
        let events: Value = serde_json::from_slice(body).unwrap_or_default();
        for event in events["items"].as_array().into_iter().flatten() {
            let uid = event["involvedObject"]["uid"].as_str().unwrap_or_default();
            let passed = self.0.passed.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = passed.get(uid).copied();
            drop(passed);
            let message = event["message"].as_str().unwrap_or_default();
            if let (Some(asked), Some((_, name))) = (asked, message.split_once(" fail: ")) {
                self.heard(asked, Answer::Question(name.to_owned()));
            }
        }
    }

    fn heard(&self, asked: Instant, answer: Answer) {
        self.0.log.add_at(asked, &self.0.who, What::Answer(answer));
    }
}

/// A question to the gate. The operator may stop waiting for its answer.
struct Question<'a> {
    transport: &'a Transport,
    asked: Instant,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.asked.elapsed() >= PATIENCE {
            self.transport.0.log.add(&self.transport.0.who, What::Unreachable);
        }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().handle(request))
    }
}

/// The ring whose public key a write hands to a pipeline, and the key.
fn published(target: &Target, body: &[u8]) -> Option<(String, String)> {
    if target.resource != "secrets" || target.namespace.ends_with("-system") {
        return None;
    }
    let secret: Value = serde_json::from_slice(body).ok()?;
    Some((owner(&secret)?.to_owned(), public_key(&secret)?))
}
