//! Applies rows, sees what becomes of each, and that a healthy ring goes on.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
    core::Request,
};
use serde_json::Value;
use signingkeyring_e2e_testbed::world::{timed, wait_until};

use crate::{common::Shared, inert};

/// What became of the objects of a class: how many, refused, with a condition.
pub type Table = BTreeMap<String, (u32, u32, u32)>;

/// The ring that has to go on whatever comes.
pub const CONTROL: &str = "control";

/// How long a rotation of the control ring may take after a batch.
const ROTATION: Duration = Duration::from_secs(45);

/// Reasons of `Ready=False` that last until somebody does something.
const LASTING: [&str; 6] = [
    "SpecInvalid",
    "KeyMaterialLost",
    "SecretConflict",
    "AccessNotGranted",
    "NamespaceMissing",
    "PolicyRejected",
];

/// What is to become of an object.
pub enum Wants {
    /// Refused by the API server, in a sentence that holds this.
    Refused(&'static str),
    /// Accepted, and the condition Ready begins so.
    Condition(&'static str),
    /// Accepted, and the control ring's rule skips this.
    Excludes(String),
    /// One of the two.
    Either,
}

/// One object.
pub struct Row {
    class: String,
    kind: &'static str,
    name: String,
    body: Vec<u8>,
    wants: Wants,
}

impl Row {
    #[expect(clippy::needless_pass_by_value, reason = "rows are written as literals")]
    pub fn new(class: &str, object: Value, wants: Wants) -> Self {
        let kind = if object["kind"] == "SigningKeyRing" { RINGS } else { LISTS };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Self { class: class.to_owned(), kind, name, body: object.to_string().into(), wants }
    }

    /// A ring that is no JSON.
    pub fn raw(class: &str, body: String, wants: Wants) -> Self {
        let (kind, name) = (RINGS, String::new());
        Self { class: class.to_owned(), kind, name, body: body.into(), wants }
    }

    pub fn is_ring(&self) -> bool {
        self.kind == RINGS
    }

    /// The object as a failure shows it.
    fn show(&self) -> String {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(400).collect();
        format!("{} {:.80} ({body})", self.class, self.name)
    }
}

const RINGS: &str = "signingkeyrings";
const LISTS: &str = "imageexclusionlists";

/// The cluster, and what was counted.
pub struct Batch {
    pub shared: &'static Shared,
    pub client: Client,
    pub table: Table,
    rotations: u32,
}

impl Batch {
    pub async fn new(shared: &'static Shared) -> Result<Self> {
        shared.world.ready_ring(CONTROL).await?;
        let client = shared.world.client().await?;
        Ok(Self { shared, client, table: Table::new(), rotations: 0 })
    }

    /// Counts an object.
    pub fn count(&mut self, class: &str, refused: bool) {
        let row = self.table.entry(class.to_owned()).or_default();
        row.0 += 1;
        *(if refused { &mut row.1 } else { &mut row.2 }) += 1;
    }

    /// Applies objects, waits for what is to become of them, lets the control
    /// ring rotate beside them, and deletes them.
    pub async fn apply(&mut self, rows: Vec<Row>) -> Result<()> {
        let mut accepted = Vec::new();
        for row in rows {
            match (self.create(&row).await?, &row.wants) {
                (None, Wants::Refused(_)) => bail!("{} was accepted", row.show()),
                (None, _) => accepted.push(row),
                (Some(text), Wants::Refused(sentence)) => {
                    ensure!(text.contains(sentence), "{}: no {sentence:?} in: {text}", row.show());
                    self.count(&row.class, true);
                }
                (Some(_), Wants::Either) => self.count(&row.class, true),
                (Some(text), _) => bail!("{} was refused: {text}", row.show()),
            }
        }
        self.settle(&accepted).await?;
        self.go_on().await?;
        for row in &accepted {
            self.count(&row.class, false);
        }
        self.remove(&accepted).await
    }

    /// Creates objects that are all accepted, and waits for what they become.
    pub async fn create_all(&self, rows: &[Row]) -> Result<()> {
        for row in rows {
            if let Some(text) = self.create(row).await? {
                bail!("{} was refused: {text}", row.show());
            }
        }
        self.settle(rows).await
    }

    /// Creates an object; returns the API server's words if it refuses.
    async fn create(&self, row: &Row) -> Result<Option<String>> {
        let path = format!("/apis/signing.odj.cloud/v1alpha1/{}", row.kind);
        let request = Request::new(path).create(&PostParams::default(), row.body.clone())?;
        match self.client.request::<Value>(request).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                ensure!(!status.message.is_empty(), "{} was refused without a word", row.show());
                Ok(Some(status.message.clone()))
            }
            Err(error) => Err(error).with_context(|| format!("creating {}", row.show())),
        }
    }

    /// Waits until every accepted object is what it is to become.
    pub async fn settle(&self, rows: &[Row]) -> Result<()> {
        let mut last = String::new();
        let settled = wait_until("every accepted object has its condition", async || {
            let rings = self.api(RINGS).list(&ListParams::default()).await?;
            let skipped = inert::skipped(&self.client, CONTROL).await?;
            last = rows
                .iter()
                .filter_map(|row| match &row.wants {
                    Wants::Excludes(image) => {
                        (!skipped.contains(image)).then(|| format!("{image} is not skipped"))
                    }
                    _ if !row.is_ring() => None,
                    wants => {
                        let ring = rings.iter().find(|ring| ring.name_any() == row.name);
                        let found = ring.map(ready).unwrap_or_default();
                        (!fits(&found, wants)).then(|| format!("{}: {found}", row.show()))
                    }
                })
                .collect::<Vec<_>>()
                .join("\n");
            Ok(last.is_empty())
        });
        let settled = settled.await;
        settled.with_context(|| format!("still not so:\n{last}"))
    }

    /// The operator lives, the control ring rotates in time, and the policies
    /// hold nothing but what they may.
    pub async fn go_on(&mut self) -> Result<()> {
        self.rotations += 1;
        let token = format!("turn-{}", self.rotations);
        let (rotated, took) = timed(self.shared.world.rotate(CONTROL, &token)).await;
        rotated?;
        ensure!(took < ROTATION, "the control ring took {} s to rotate", took.as_secs());
        self.shared.world.wait_for_condition(CONTROL, "Ready", "True").await?;
        let current = self.shared.world.ring(CONTROL, "{.status.currentVersion}").await?;
        ensure!(current == (self.rotations + 1).to_string(), "version {current} signs");
        let operator = self.shared.operator.lock().await;
        let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
        ensure!(metrics.contains("signingkeyring_rings"), "no metrics: {metrics}");
        inert::check(&self.client).await
    }

    /// Deletes objects and waits until they are gone.
    pub async fn remove(&self, rows: &[Row]) -> Result<()> {
        for row in rows {
            self.api(row.kind).delete(&row.name, &DeleteParams::default()).await?;
        }
        wait_until("what was applied is gone", async || {
            let mut left = self.api(RINGS).list(&ListParams::default()).await?.items;
            left.extend(self.api(LISTS).list(&ListParams::default()).await?.items);
            Ok(!left.iter().any(|object| rows.iter().any(|row| row.name == object.name_any())))
        })
        .await
    }

    fn api(&self, plural: &str) -> Api<DynamicObject> {
        let kind = if plural == RINGS { "SigningKeyRing" } else { "ImageExclusionList" };
        let resource = ApiResource {
            group: "signing.odj.cloud".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "signing.odj.cloud/v1alpha1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::all_with(self.client.clone(), &resource)
    }
}

/// `Status Reason Message` of a ring's condition Ready, if it speaks of the
/// ring as it is.
fn ready(ring: &DynamicObject) -> String {
    let status = &ring.data["status"];
    if status["observedGeneration"].as_i64() != ring.metadata.generation {
        return String::new();
    }
    let conditions = status["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let field =
        |name: &str| ready.and_then(|ready| ready[name].as_str()).unwrap_or_default().to_owned();
    format!("{} {} {}", field("status"), field("reason"), field("message"))
}

fn fits(found: &str, wants: &Wants) -> bool {
    match wants {
        Wants::Condition(begin) => found.starts_with(begin),
        Wants::Either => {
            found.starts_with("True ")
                || found
                    .strip_prefix("False ")
                    .is_some_and(|rest| LASTING.iter().any(|reason| rest.starts_with(reason)))
        }
        Wants::Refused(_) | Wants::Excludes(_) => false,
    }
}
