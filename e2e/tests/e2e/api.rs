//! Bad manifests get the API server's error, with what to write instead.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{kind::Kind, world::manifest};

use crate::common::run;

fn exclude(entry: &str) -> String {
    manifest("bad", &format!("  policy: {{exclude: [{{reason: because, {entry}}}]}}\n"))
}

fn rotation(rotation: &str) -> String {
    manifest("bad", "").replace("{soak: 1s}", &format!("{{{rotation}}}"))
}

#[test]
fn bad_manifests_are_refused_with_a_sentence() {
    run(async |shared| {
        let twice = manifest("bad", "")
            .replace("[{namespace: bad-ci}]", "[{namespace: ci}, {namespace: ci}]");
        let rows = [
            (manifest("bad", "  keepVersions: 0\n"), "keepVersions must be between 1 and 10"),
            (manifest("bad", "  keepVersions: 11\n"), "keepVersions must be between 1 and 10"),
            (
                twice,
                "spec.pipelines[1]: Duplicate value: {\"namespace\":\"ci\",\"secretName\":\"image-signing\"}",
            ),
            (rotation("every: often"), "at least 1h, for example 90d"),
            (rotation("every: 59m"), "at least 1h, for example 90d"),
            (rotation("soak: ten"), "at most 1h, for example 10s"),
            (
                exclude("image: 'quay.io/x/*', expires: soon"),
                "expires must be a date that exists, such as 2027-01-31",
            ),
            (
                exclude("image: 'quay.io/x/*', expires: '2027-02-29'"),
                "expires must be a date that exists, such as 2027-01-31",
            ),
            (exclude("image: 'quay.io/*/x'"), "a wildcard stands only at the end"),
            (exclude("image: '*.io/x/*'"), "never in the host"),
            (exclude("image: 'quay.io/jetstack*'"), "a wildcard stands only at the end"),
            (
                manifest("bad.name", ""),
                "metadata.name must be a DNS label of at most 63 characters",
            ),
            (
                manifest(&"a".repeat(64), "").replace(&format!("{}-ci", "a".repeat(64)), "ci"),
                "metadata.name must be a DNS label of at most 63 characters",
            ),
            (manifest("signing-gate", ""), "metadata.name signing-gate is reserved"),
        ];
        for (yaml, sentence) in rows {
            let create = ["create", "--filename=-"];
            match shared.world.run("kubectl", &create, &[], &yaml).await {
                Ok(_) => anyhow::bail!("accepted, without {sentence:?}:\n{yaml}"),
                Err(error) => {
                    let text = format!("{error:#}");
                    ensure!(text.contains(sentence), "{sentence:?} is not in: {text}\n{yaml}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn kubectl_shows_and_explains() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("shown").await?;
        let table = world.kubectl(&["get", "skr", "shown", "-o", "wide"]).await?;
        for column in [
            "CURRENT",
            "ACCEPTED",
            "NAMESPACES",
            "READY",
            "AGE",
            "POLICY",
            "FINGERPRINT",
            "NEXT ROTATION",
            "MESSAGE",
            "[1]",
            "True",
            &Kind::under_test().enforce(1)[..],
            "SHA256:",
        ] {
            ensure!(table.contains(column), "{column} is not in:\n{table}");
        }
        world.kubectl(&["get", "signing"]).await?;
        world.kubectl(&["get", "iel", "odj-platform"]).await?;
        let text = world.kubectl(&["explain", "skr.spec.rotation.every"]).await?;
        ensure!(text.contains("Rotate this often"), "{text}");
        Ok(()) as Result<()>
    });
}

#[test]
fn metrics_name_what_one_alerts_on() {
    run(async |shared| {
        shared.world.ready_ring("measured").await?;
        let operator = shared.operator.lock().await;
        let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
        for series in [
            "signingkeyring_reconciles_total{controller=\"rings\",outcome=\"success\"}",
            "signingkeyring_reconciles_total{controller=\"policies\",outcome=\"success\"}",
            "signingkeyring_rings{state=\"ready\"}",
            "signingkeyring_gate_state{policy=\"POLICY\",state=\"answered\"} 1",
            "signingkeyring_gate_asked_timestamp_seconds{policy=\"POLICY\"}",
            "signingkeyring_gate_latency_seconds{policy=\"POLICY\"}",
            "# UNIT signingkeyring_reconcile_duration_seconds seconds",
        ] {
            let series = series.replace("POLICY", &Kind::under_test().enforce(1));
            ensure!(metrics.contains(&series), "{series} is not in:\n{metrics}");
        }
        Ok(())
    });
}
