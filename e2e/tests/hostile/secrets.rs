//! Hostile ledgers in the operator's namespace, and foreign Secrets where a
//! pipeline's is to be.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::ledger::{ANNOTATION as LEDGER, SECRET_TYPE};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{consent, wait_until},
};

use crate::{
    batch::{Batch, CONTROL, Row, Wants},
    texts::{ring, spec, texts},
};

const SYSTEM: &str = "signing-system";
const CI: &str = "hostile-ci";

/// Ledgers that nobody but an attacker or an accident writes. `good` is one
/// of another ring.
fn contents(good: &str) -> Vec<String> {
    let edit = |from: &str, to: &str| good.replacen(from, to, 1);
    let mut contents: Vec<String> = [
        "",
        "null",
        "{}",
        "[]",
        "0",
        "\"\"",
        "{",
        "true",
        "\u{0}",
        "{\"format\":1}",
        "{\"format\":2}",
        "{\"format\":99999999999999999999}",
        "{\"digest\":\"\"}",
        "{\"digest\":null,\"ledger\":null}",
        "{\"ledger\":{}}",
        "{\"digest\":\"00\",\"ledger\":{\"format\":1}}",
        "not json",
        "{{ledger}}",
    ]
    .map(str::to_owned)
    .into();
    contents.push("[".repeat(100_000));
    contents.push("{\"a\":".repeat(30_000));
    contents.push(format!("\"{}\"", "x".repeat(200_000)));
    contents.push(format!("{{\"format\":{}}}", "9".repeat(100_000)));
    contents.push(good[..good.len() / 2].to_owned());
    contents.push(format!("{good}{good}"));
    contents.push(edit("{", "{\"format\":1,\"format\":1,"));
    contents.push(edit("\"versions\":[", "\"versions\":[null,"));
    contents.push(edit("\"number\":1", "\"number\":4294967295"));
    contents.push(edit("\"number\":1", "\"number\":-1"));
    contents.push(edit("\"number\":1", "\"number\":1e400"));
    contents.push(edit("\"number\":1", "\"number\":\"1\""));
    contents.push(edit("\"number\":1", "\"number\":1,\"number\":2"));
    contents
        .push(edit("BEGIN PUBLIC KEY-----\\n", "BEGIN PUBLIC KEY-----\\n{{request.object}}\\n"));
    contents.push(edit(&format!("{}enforce-", Kind::under_test().prefix()), "somebody-elses-"));
    contents.push(edit("\"removed\":false", "\"removed\":\"no\""));
    contents
}

fn ledger(name: &str, kind: &str, annotation: &str) -> Result<Secret> {
    let annotations = json!({LEDGER: annotation});
    let metadata = json!({"name": name, "namespace": SYSTEM, "annotations": annotations});
    Ok(serde_json::from_value(json!({"metadata": metadata, "type": kind}))?)
}

pub async fn ledgers(batch: &mut Batch) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(batch.client.clone(), SYSTEM);
    let own = api.get_metadata(&format!("ring-{CONTROL}")).await?;
    let good = own.annotations().get(LEDGER).context("the control ring has a ledger")?.clone();
    let (class, kind) = ("ledger: hostile content", SECRET_TYPE);
    let mut rows = Vec::new();
    let mut planted = Vec::new();
    for (index, content) in contents(&good).iter().enumerate() {
        ensure!(*content != good, "content {index} is unchanged");
        let name = format!("ledger-{index}");
        planted.push(ledger(&format!("ring-{name}"), kind, content)?);
        let object = ring(&name, &spec(&json!({})));
        rows.push(Row::new(class, object, Wants::Condition("False KeyMaterialLost")));
    }
    planted.push(ledger("ring-foreign", "Opaque", &good)?);
    let wants = Wants::Condition("False SecretConflict");
    rows.push(Row::new("ledger: foreign Secret", ring("foreign", &spec(&json!({}))), wants));
    planted.push(ledger("ring-copied", kind, &good)?);
    let copied = ring("copied", &spec(&json!({})));
    rows.push(Row::new("ledger: another ring's", copied, Wants::Either));
    // No ring may have these names: they are nobody's, and harm nobody.
    for name in ["ring-signing-gate", "ring-a.b", "ring-a..b", "ring-", "ring--a"] {
        let Ok(_) = api.create(&PostParams::default(), &ledger(name, kind, &good)?).await else {
            batch.count("ledger: no ring's name", true);
            continue;
        };
        batch.count("ledger: no ring's name", false);
    }
    for secret in &planted {
        api.create(&PostParams::default(), secret).await.with_context(|| secret.name_any())?;
    }
    batch.apply(rows).await?;

    // Ledgers that were good and are damaged under a ring that serves.
    let names: Vec<String> = (0..4).map(|n| format!("damaged-{n}")).collect();
    let class = "ledger: damaged while in use";
    let rows = |wants: fn() -> Wants| -> Vec<Row> {
        names.iter().map(|name| Row::new(class, ring(name, &spec(&json!({}))), wants())).collect()
    };
    let healthy = rows(|| Wants::Condition("True"));
    batch.create_all(&healthy).await?;
    for (name, content) in names.iter().zip(["", "{", &good[..40], "{{x}}"]) {
        let patch = json!({"metadata": {"annotations": {LEDGER: content}}});
        let name = format!("ring-{name}");
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    let lost = rows(|| Wants::Condition("False KeyMaterialLost"));
    batch.settle(&lost).await?;
    batch.go_on().await?;
    for _ in &lost {
        batch.count(class, false);
    }
    batch.remove(&lost).await?;
    let left = api.list_metadata(&ListParams::default()).await?;
    for secret in left.iter().map(ResourceExt::name_any).filter(|name| name != "ring-control") {
        api.delete(&secret, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Annotations that pretend to be the operator's.
fn pretences(ring: &str) -> Vec<Value> {
    let one = |version: &str, fingerprint: &str, layout: &str| {
        json!({
            "signing.odj.cloud/ring": ring,
            "signing.odj.cloud/version": version,
            "signing.odj.cloud/fingerprint": fingerprint,
            "signing.odj.cloud/layout": layout,
        })
    };
    let mut all = vec![
        json!({}),
        json!({"signing.odj.cloud/ring": ring}),
        json!({"signing.odj.cloud/ring": ""}),
        json!({"signing.odj.cloud/ring": "control", "signing.odj.cloud/version": "1"}),
        json!({"signing.odj.cloud/ring": format!("{ring} ")}),
        one("99999999999999999999", "SHA256:", "Cosign"),
        one("-1", "", "Environment"),
        one("NaN", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "Cosign"),
        one("1", "*", "../Cosign"),
        one("1", &"f".repeat(200_000), "Cosign"),
        json!({LEDGER: "{}", "signing.odj.cloud/ring": ring}),
    ];
    all.extend(texts().iter().take(18).map(|text| one(text, text, text)));
    all
}

pub async fn pipelines(batch: &mut Batch) -> Result<()> {
    let world = &batch.shared.world;
    world.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {CI}}}}}")).await?;
    world.apply(&consent(CI)).await?;
    // The operator may do anything to these Secrets, and must not.
    let rights = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: all, namespace: {CI}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\n\
         subjects: [{{kind: ServiceAccount, name: signingkeyring-operator, namespace: signing-system}}]\n"
    );
    world.apply(&rights).await?;
    let api: Api<Secret> = Api::namespaced(batch.client.clone(), CI);
    let mut planted = Vec::new();
    for (index, annotations) in pretences("pretended").iter().enumerate() {
        let secret = json!({
            "metadata": {
                "name": format!("s-{index}"),
                "annotations": annotations,
                "labels": {"app.kubernetes.io/managed-by": "signingkeyring-operator"},
            },
            "stringData": {"cosign.key": "theirs"},
        });
        let secret: Secret = serde_json::from_value(secret)?;
        planted.push(api.create(&PostParams::default(), &secret).await?);
    }
    let pipelines: Vec<Value> = planted
        .iter()
        .map(|secret| json!({"namespace": CI, "secretName": secret.name_any()}))
        .collect();
    // The ring serves already: before its first version a Secret that says it
    // is the ring's would count as evidence of a lost ledger.
    let row =
        |wants| [Row::new("pipeline: foreign Secret", ring("pretended", &spec(&json!({}))), wants)];
    batch.create_all(&row(Wants::Condition("True"))).await?;
    let patch = json!({"spec": {"pipelines": pipelines}}).to_string();
    world.kubectl(&["patch", "skr", "pretended", "--type=merge", "-p", &patch]).await?;
    let row = row(Wants::Condition("False SecretConflict"));
    batch.settle(&row).await?;
    wait_until("every pipeline is a conflict", async || {
        let states = world.ring("pretended", "{.status.pipelines[*].state}").await?;
        let conflicts = states.split(' ').filter(|state| *state == "SecretConflict").count();
        Ok(conflicts == planted.len())
    })
    .await?;
    batch.go_on().await?;
    batch.remove(&row).await?;
    for before in &planted {
        let after = api.get(&before.name_any()).await?;
        ensure!(after == *before, "Secret {} was touched", before.name_any());
        batch.count("pipeline: foreign Secret", false);
    }
    Ok(())
}
