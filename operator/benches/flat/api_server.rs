//! An API server that keeps in memory what it is given, in a process of its own: as
//! much of one as the operator asks for, with a Kyverno that answers at once.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io::Read,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json};
use signingkeyring_core::names;
use tokio::sync::Notify;

/// Where the program that measures asks and tells.
pub const BENCH: &str = "/bench";

/// How long a watch hears nothing before it looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(200);

type Shared = Arc<(Mutex<Cluster>, Notify)>;

/// All that there is, by `group/version/plural`, and how often each was asked for.
#[derive(Default)]
pub struct Cluster {
    collections: HashMap<String, Collection>,
    requests: BTreeMap<String, u64>,
    version: u64,
    /// Raised to end all watches, as if what they are to go on from was compacted.
    epoch: u64,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<(String, String), Arc<Value>>,
    events: Vec<(u64, &'static str, Arc<Value>)>,
}

impl Cluster {
    /// Takes in an object as it is.
    pub fn store(&mut self, collection: &str, object: Value) -> Arc<Value> {
        self.put(collection, object, "ADDED")
    }

    fn put(&mut self, collection: &str, mut object: Value, what: &'static str) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let key = key(&object);
        let object = Arc::new(object);
        let collection = self.collections.entry(collection.to_owned()).or_default();
        if what == "DELETED" {
            collection.objects.remove(&key);
        } else {
            collection.objects.insert(key, Arc::clone(&object));
        }
        collection.events.push((self.version, what, Arc::clone(&object)));
        object
    }

    fn get(&self, collection: &str, key: &(String, String)) -> Option<&Arc<Value>> {
        self.collections.get(collection)?.objects.get(key)
    }

    /// Forgets the events that made it: nobody has to hear of them.
    pub fn settle(&mut self) {
        self.collections.values_mut().for_each(|collection| collection.events.clear());
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn lock(shared: &Shared) -> MutexGuard<'_, Cluster> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until standard input closes; prints the port.
pub fn serve(cluster: Cluster) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shared: Shared = Arc::new((Mutex::new(cluster), Notify::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        let app = Router::new().fallback(answer).with_state(shared);
        Ok(axum::serve(listener, app).await?)
    })
}

/// A request for something in a collection.
struct Target {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let group = match *parts.first()? {
            "api" => parts.drain(..2.min(parts.len())).skip(1).collect::<Vec<_>>().join("/"),
            "apis" => parts.drain(..3.min(parts.len())).skip(1).collect::<Vec<_>>().join("/"),
            _ => return None,
        };
        let mut namespace = None;
        if parts.len() >= 3 && parts[0] == "namespaces" {
            namespace = Some(parts[1].to_owned());
            parts.drain(..2);
        }
        let plural = parts.first()?;
        Some(Self {
            collection: format!("{group}/{plural}"),
            namespace,
            name: parts.get(1).map(|name| (*name).to_owned()),
            status: parts.get(2) == Some(&"status"),
        })
    }
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query: HashMap<String, String> = query
        .iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    if let Some(what) = uri.path().strip_prefix(BENCH) {
        return bench(&shared, what, &body);
    }
    if uri.path() == "/version" {
        return ok(&json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}));
    }
    if uri.path() == format!("/apis/{}", names::API_VERSION) {
        let resource = json!({"name": names::QUESTION_PLURAL, "singularName": "", "verbs": [],
            "namespaced": true, "kind": names::QUESTION_KIND});
        return ok(&json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": names::API_VERSION, "resources": [resource]}));
    }
    let Some(target) = Target::of(uri.path()) else { return failed(404, "NotFound") };
    let verb = match (&method, &target.name) {
        _ if query.contains_key("watch") => "watch",
        _ if query.contains_key("dryRun") => "try",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        _ => "delete",
    };
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let partial = accept.contains("PartialObjectMetadata");
    {
        let what = match (&target, partial) {
            (Target { status: true, .. }, _) => " status",
            (_, true) => " metadata",
            _ => "",
        };
        let plural = target.collection.rsplit('/').next().unwrap_or_default();
        let name = format!("{verb} {plural}{what}");
        *lock(&shared).requests.entry(name).or_default() += 1;
    }
    match verb {
        "watch" => watch(shared, target, &query, partial),
        "list" => list(&shared, &target, &query, partial),
        "get" => match lock(&shared).get(&target.collection, &wanted(&target)) {
            Some(object) => ok(&shown(object, partial)),
            None => failed(404, "NotFound"),
        },
        _ => {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            write(&shared, &target, verb, &headers, body, partial)
        }
    }
}

fn wanted(target: &Target) -> (String, String) {
    (target.namespace.clone().unwrap_or_default(), target.name.clone().unwrap_or_default())
}

fn write(
    shared: &Shared,
    target: &Target,
    verb: &str,
    headers: &HeaderMap,
    mut body: Value,
    partial: bool,
) -> Response {
    let mut cluster = lock(shared);
    let collection = &target.collection;
    if collection.ends_with("/selfsubjectreviews") {
        body["status"] =
            json!({"userInfo": {"username": "system:serviceaccount:signing-system:operator"}});
        return ok(&body);
    }
    if collection.ends_with("/events") {
        return ok(&body);
    }
    if collection.ends_with("/gatequestions") {
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let policy = cluster.get("kyverno.io/v1/clusterpolicies", &(String::new(), name));
        if let Some(policy) = policy {
            let marks = &policy["metadata"]["annotations"][names::ANNOTATION_MARKS];
            body["metadata"]["annotations"] = json!({names::ANNOTATION_GATE_ANSWER: marks});
        }
        return ok(&body);
    }
    if verb == "try" {
        return ok(&body);
    }
    let named = wanted(target);
    let found = cluster.get(collection, &named).map(|found| Value::clone(found));
    let version = body["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    if let (Some(version), Some(found)) = (version, &found)
        && found["metadata"]["resourceVersion"] != version.as_str()
    {
        return failed(409, "Conflict");
    }
    let (object, what) = match (verb, found) {
        ("create", _) => {
            if let Some(namespace) = &target.namespace {
                body["metadata"]["namespace"] = json!(namespace);
            }
            if cluster.get(collection, &key(&body)).is_some() {
                return failed(409, "AlreadyExists");
            }
            body["metadata"]["uid"] = json!(format!("uid-{}", cluster.version));
            body["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
            body["metadata"]["generation"] = json!(1);
            (body, "ADDED")
        }
        (_, None) => return failed(404, "NotFound"),
        ("update", Some(found)) => {
            for field in ["uid", "creationTimestamp", "managedFields"] {
                body["metadata"][field] = found["metadata"][field].clone();
            }
            (body, "MODIFIED")
        }
        ("delete", Some(found)) => (found, "DELETED"),
        (_, Some(found)) => {
            let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            let mut next = found.clone();
            if kind.is_some_and(|kind| kind.contains("apply-patch")) {
                next["status"] = body["status"].take();
            } else {
                if let Some(metadata) = body["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                merge(&mut next, body);
            }
            if next == found {
                return ok(&shown(&next, partial));
            }
            (next, "MODIFIED")
        }
    };
    let stored = cluster.put(collection, object, what);
    drop(cluster);
    shared.1.notify_waiters();
    ok(&shown(&stored, partial))
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *into = patch };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(fields) = into.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn selected(target: &Target, query: &HashMap<String, String>, object: &Value) -> bool {
    let fields = query.get("fieldSelector").map(String::as_str).unwrap_or_default();
    let fits = |selector: &str| {
        let (field, value) = selector.split_once('=').unwrap_or((selector, ""));
        match field {
            "metadata.name" => object["metadata"]["name"] == value,
            "type" => object["type"] == value,
            "type!" => object["type"] != value,
            _ => true,
        }
    };
    let inside = |namespace: &String| object["metadata"]["namespace"] == namespace.as_str();
    target.namespace.as_ref().is_none_or(inside)
        && fields.split(',').filter(|field| !field.is_empty()).all(fits)
}

fn list(
    shared: &Shared,
    target: &Target,
    query: &HashMap<String, String>,
    partial: bool,
) -> Response {
    let cluster = lock(shared);
    let limit = query.get("limit").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let after = query.get("continue").map(String::as_str).unwrap_or_default();
    let objects = cluster.collections.get(&target.collection);
    let objects = objects.into_iter().flat_map(|collection| &collection.objects);
    let objects =
        objects.map(|((namespace, name), object)| (format!("{namespace}/{name}"), object));
    let mut page: Vec<_> = objects
        .filter(|(key, object)| key.as_str() > after && selected(target, query, object))
        .take(limit.saturating_add(1))
        .collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|(key, _)| key.clone()).unwrap_or_default();
    let kind = if partial { "PartialObjectMetadataList" } else { "List" };
    let items: Vec<_> = page.iter().map(|(_, object)| shown(object, partial)).collect();
    ok(&json!({
        "kind": kind, "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": cluster.version.to_string(), "continue": next},
    }))
}

fn watch(
    shared: Shared,
    target: Target,
    query: &HashMap<String, String>,
    partial: bool,
) -> Response {
    let since: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
    let epoch = lock(&shared).epoch;
    let query = query.clone();
    let state = (shared, target, query, since, false);
    let lines = stream::unfold(state, move |(shared, target, query, mut since, over)| async move {
        if over {
            return None;
        }
        loop {
            let (lines, over) = heard(&shared, &target, &query, &mut since, epoch, partial);
            if !lines.is_empty() {
                let lines = Ok::<_, Infallible>(Bytes::from(lines));
                return Some((lines, (shared, target, query, since, over)));
            }
            let _ = tokio::time::timeout(PAUSE, shared.1.notified()).await;
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, Body::from_stream(lines)).into_response()
}

/// What a watch has yet to bring, and whether that is all.
fn heard(
    shared: &Shared,
    target: &Target,
    query: &HashMap<String, String>,
    since: &mut u64,
    epoch: u64,
    partial: bool,
) -> (Vec<u8>, bool) {
    let cluster = lock(shared);
    if cluster.epoch != epoch {
        let gone = json!({"type": "ERROR", "object": status(410, "Expired")});
        return (serde_json::to_vec(&gone).unwrap_or_default(), true);
    }
    let events = cluster.collections.get(&target.collection).map(|c| &c.events[..]);
    let events = events.unwrap_or_default();
    let mut lines = Vec::new();
    for (version, what, object) in &events[events.partition_point(|(v, ..)| *v <= *since)..] {
        *since = *version;
        if selected(target, query, object) {
            let event = json!({"type": what, "object": shown(object, partial)});
            lines.extend(serde_json::to_vec(&event).unwrap_or_default());
            lines.push(b'\n');
        }
    }
    (lines, false)
}

/// What the program that measures asks for.
fn bench(shared: &Shared, what: &str, body: &Bytes) -> Response {
    let mut cluster = lock(shared);
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |field: &str| body[field].as_str().unwrap_or_default();
    match what {
        "/requests" => {
            let requests = cluster.requests.clone();
            return ok(&json!(requests));
        }
        "/relist" => cluster.epoch += 1,
        "/create" => {
            cluster.put(text("collection"), body["object"].clone(), "ADDED");
        }
        "/merge" => {
            let key = (String::new(), text("name").to_owned());
            let Some(found) = cluster.get(text("collection"), &key) else {
                return failed(404, "NotFound");
            };
            let mut next = Value::clone(found);
            merge(&mut next, body["patch"].clone());
            cluster.put(text("collection"), next, "MODIFIED");
        }
        "/ready" => {
            let rings = cluster.collections.get("signing.odj.cloud/v1alpha1/signingkeyrings");
            let ready = |ring: &&Arc<Value>| {
                let conditions = ring["status"]["conditions"].as_array().into_iter().flatten();
                conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            let ready = rings.map_or(0, |rings| rings.objects.values().filter(ready).count());
            return ok(&json!({"ready": ready}));
        }
        _ => {
            let key = (String::new(), text("name").to_owned());
            return match cluster.get(text("collection"), &key) {
                Some(object) => ok(object),
                None => failed(404, "NotFound"),
            };
        }
    }
    drop(cluster);
    shared.1.notify_waiters();
    ok(&json!({}))
}

fn shown(object: &Value, partial: bool) -> Value {
    if !partial {
        return object.clone();
    }
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": object["metadata"],
    })
}

fn ok(value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, serde_json::to_vec(value).unwrap_or_default()).into_response()
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code})
}

fn failed(code: u16, reason: &str) -> Response {
    let status_code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&status(code, reason)).unwrap_or_default();
    (status_code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = std::str::from_utf8(&hex).unwrap_or_default();
                bytes.extend(u8::from_str_radix(hex, 16));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
