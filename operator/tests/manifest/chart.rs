//! The chart says what the manifests say, with its defaults and with other settings; and
//! what is its alone is what it should be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{find, manifests, objects, overlaid, program, rendered};

/// A kind that the release itself brings: Helm is told that the cluster serves it, as it
/// does from the first upgrade on.
const LISTS: &str = "signing.odj.cloud/v1alpha1/ImageExclusionList";

fn template(values: &[&str]) -> std::process::Command {
    let mut helm = program("helm");
    helm.args(["template", "signing", "--namespace=signing-system"]).arg(manifests().join("chart"));
    for value in values {
        helm.args(["--set", value]);
    }
    helm
}

/// What `helm upgrade` sends, tests apart.
fn chart(values: &[&str]) -> Vec<Value> {
    objects(template(values).args(["--no-hooks", "--api-versions", LISTS]))
}

/// What Helm says instead.
fn refused(values: &[&str]) -> String {
    let output = template(values).output().unwrap();
    assert!(!output.status.success(), "{values:?} were taken");
    String::from_utf8(output.stderr).unwrap()
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let named = objects.into_iter().map(|mut object| {
        let metadata = &mut object["metadata"];
        let annotations = metadata["annotations"].as_object_mut();
        annotations.map(|annotations| annotations.remove("helm.sh/resource-policy"));
        if metadata["annotations"].as_object().is_none_or(serde_json::Map::is_empty) {
            metadata.as_object_mut().unwrap().remove("annotations");
        }
        // A patch of kustomize's puts its variables first.
        let variables = object.pointer_mut("/spec/template/spec/containers/0/env");
        if let Some(variables) = variables.and_then(Value::as_array_mut) {
            variables.sort_by_key(|variable| variable["name"].to_string());
        }
        let name = [&object["kind"], &object["metadata"]["namespace"], &object["metadata"]["name"]];
        let name = name.map(|part| part.as_str().unwrap_or_default()).join(" ");
        (name, object)
    });
    named.collect()
}

/// That both are the same objects, and say the same. The chart's namespace is the
/// release's, which Helm creates.
fn assert_same(chart: Vec<Value>, mut kustomize: Vec<Value>) {
    kustomize.retain(|o| o["kind"] != "Namespace" || o["metadata"]["name"] != "signing-system");
    let (chart, kustomize) = (by_name(chart), by_name(kustomize));
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&chart), names(&kustomize));
    for (name, object) in &chart {
        assert_eq!(*object, kustomize[name], "{name}");
    }
}

fn exclusions() -> Value {
    serde_saphyr::from_str(include_str!("../../../manifests/exclusions.yaml")).unwrap()
}

#[test]
fn its_defaults_are_the_manifests() {
    let kustomize = rendered(&manifests()).into_iter().chain([exclusions()]).collect();
    assert_same(chart(&[]), kustomize);
}

#[test]
fn other_settings_are_an_overlay() {
    let overlay = "resources: [MANIFESTS]
transformers: [MANIFESTS/guard/settings]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: signingkeyring-operator, namespace: signing-system}
    spec:
      replicas: 1
      template:
        spec:
          priorityClassName: system-cluster-critical
          containers:
          - name: operator
            env:
            - {name: SIGNING_ENROLMENT_LABEL, value: odj.cloud/application}
            - {name: SIGNING_KYVERNO_NAMESPACE, value: policies}
";
    let values = [
        "enrolmentLabel=odj.cloud/application",
        "kyverno.namespace=policies",
        "replicas=1",
        "priorityClassName=system-cluster-critical",
    ];
    let kustomize = overlaid("settings", overlay).into_iter().chain([exclusions()]).collect();
    assert_same(chart(&values), kustomize);
}

#[test]
fn what_is_optional_is_the_folder_of_its_name() {
    let parts = [
        ("probe", "probe.enabled=true"),
        ("kyverno-access", "kyverno.access=true"),
        ("pipeline-access-everywhere", "pipelineAccess.everywhere=true"),
    ];
    for (folder, value) in parts {
        let mut kustomize = rendered(&manifests());
        kustomize.push(exclusions());
        kustomize.extend(rendered(&manifests().join(folder)));
        assert_same(chart(&[value]), kustomize);
    }
    let is_guard =
        |o: &Value| o["metadata"]["labels"]["app.kubernetes.io/name"] == "signingkeyring-guard";
    let mut kustomize = rendered(&manifests());
    assert!(kustomize.iter().any(is_guard));
    kustomize.retain(|object| !is_guard(object));
    assert_same(chart(&["guard.enabled=false", "exclusions.platform=false"]), kustomize);
}

/// The other kind of policy is asked in a namespace of its own, and the operator told.
#[test]
fn another_kind_of_policy_brings_what_it_needs() {
    let objects = chart(&[
        "policyKind=Auto",
        "probe.namespace=elsewhere",
        "enrolmentLabel=odj.cloud/application",
        "apiServer.host=192.0.2.1",
        "apiServer.port=6443",
    ]);
    let probe = find(&objects, "Namespace", "elsewhere");
    assert_eq!(probe["metadata"]["labels"]["odj.cloud/application"], "signing-gate");
    assert_eq!(
        find(&objects, "Role", "signingkeyring-probe")["metadata"]["namespace"],
        "elsewhere"
    );
    let operator = find(&objects, "Deployment", "signingkeyring-operator");
    let environment = operator["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    let told = |name: &str| {
        let variable = environment.unwrap().iter().find(|variable| variable["name"] == name);
        variable.unwrap_or_else(|| panic!("no {name}"))["value"].clone()
    };
    assert_eq!(told("SIGNING_POLICY_KIND"), "Auto");
    assert_eq!(told("SIGNING_PROBE_NAMESPACE"), "elsewhere");
    assert_eq!(told("SIGNING_ENROLMENT_LABEL"), "odj.cloud/application");
    assert_eq!(told("KUBERNETES_SERVICE_HOST"), "192.0.2.1");
    assert_eq!(told("KUBERNETES_SERVICE_PORT"), "6443");
}

/// Before the cluster serves their kind they come as hooks, which are never deleted, and
/// say whose they are.
#[test]
fn lists_of_exclusions_come_last_and_stay() {
    let values =
        ["exclusions.lists.gke[0].image=gke.gcr.io/*", "exclusions.lists.gke[0].reason=GKE"];
    for name in ["gke", "odj-platform"] {
        let known = chart(&values);
        assert!(find(&known, "ImageExclusionList", name)["metadata"]["annotations"].is_null());
        let first = objects(&mut template(&values));
        let annotations = &find(&first, "ImageExclusionList", name)["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "post-install,post-upgrade,post-rollback");
        assert_eq!(annotations["helm.sh/hook-delete-policy"], "hook-failed");
        assert_eq!(annotations["meta.helm.sh/release-name"], "signing");
    }
}

#[test]
fn the_kinds_stay_unless_they_are_to_go() {
    let kept = |objects: &[Value], crd: &str| {
        let annotations =
            &find(objects, "CustomResourceDefinition", crd)["metadata"]["annotations"];
        annotations["helm.sh/resource-policy"] == "keep"
    };
    let crds = ["signingkeyrings", "imageexclusionlists", "gatequestions", "unknownrings"];
    for crd in crds.map(|plural| format!("{plural}.signing.odj.cloud")) {
        assert!(kept(&chart(&[]), &crd), "{crd}");
        assert!(!kept(&chart(&["crds.keep=false"]), &crd), "{crd}");
    }
    let without = chart(&["crds.enabled=false"]);
    assert!(without.iter().all(|object| object["kind"] != "CustomResourceDefinition"));
}

#[test]
fn its_network_is_the_api_server_and_who_asks_for_metrics() {
    let objects = chart(&[
        "networkPolicy.enabled=true",
        "networkPolicy.apiServerCIDRs[0]=192.0.2.1/32",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
    ]);
    let policy = find(&objects, "NetworkPolicy", "signingkeyring-operator");
    let operator = find(&objects, "Deployment", "signingkeyring-operator");
    let spec = &policy["spec"];
    assert_eq!(spec["podSelector"]["matchLabels"], operator["spec"]["selector"]["matchLabels"]);
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    let ports = json!([{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]);
    let to = json!([{"ipBlock": {"cidr": "192.0.2.1/32"}}]);
    assert_eq!(spec["egress"], json!([{"ports": ports, "to": to}]));
    let from = json!([{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]);
    let ports = json!([{"protocol": "TCP", "port": "http"}]);
    assert_eq!(spec["ingress"], json!([{"ports": ports, "from": from}]));
}

#[test]
fn monitors_find_the_port_with_the_metrics() {
    let values = ["metrics.podMonitor.enabled=true", "metrics.serviceMonitor.enabled=true"];
    let objects = chart(&values);
    let operator = find(&objects, "Deployment", "signingkeyring-operator");
    let pod = &operator["spec"]["template"];
    let port = &pod["spec"]["containers"][0]["ports"][0]["name"];
    let pods = find(&objects, "PodMonitor", "signingkeyring-operator");
    assert_eq!(pods["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
    assert_eq!(pods["spec"]["podMetricsEndpoints"][0]["port"], *port);
    let service = find(&objects, "Service", "signingkeyring-operator");
    assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], *port);
    let services = find(&objects, "ServiceMonitor", "signingkeyring-operator");
    assert_eq!(services["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    assert_eq!(services["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
}

/// As the kustomize component has it; and nothing of it without the option.
#[test]
fn metrics_for_who_may_read_them_are_a_component() {
    let overlay = "resources: [MANIFESTS]\ncomponents: [MANIFESTS/secure-metrics]\n";
    let kustomize = overlaid("secure-metrics", overlay).into_iter().chain([exclusions()]).collect();
    let secure = "metrics.secure.enabled=true";
    assert_same(chart(&[secure]), kustomize);
    let asks = |objects: Vec<Value>| objects.iter().any(|o| o.to_string().contains("tokenreviews"));
    assert!(asks(chart(&[secure])) && !asks(chart(&[])));

    let objects = chart(&[
        secure,
        "metrics.secure.certificateSecret=certificate",
        "metrics.secure.readers[0].kind=ServiceAccount",
        "metrics.secure.readers[0].name=prometheus",
        "metrics.secure.readers[0].namespace=monitoring",
    ]);
    let binding = find(&objects, "ClusterRoleBinding", "signingkeyring-metrics-reader");
    find(&objects, "ClusterRole", binding["roleRef"]["name"].as_str().unwrap());
    let reader = json!({"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"});
    assert_eq!(binding["subjects"], json!([reader]));
    let operator = find(&objects, "Deployment", "signingkeyring-operator");
    let pod = &operator["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "certificate");
    assert_eq!(pod["volumes"][0]["name"], container["volumeMounts"][0]["name"]);
    let environment = container["env"].as_array().unwrap();
    let told = environment.iter().find(|v| v["name"] == "SIGNING_METRICS_CERT_PATH").unwrap();
    assert_eq!(told["value"], container["volumeMounts"][0]["mountPath"]);
    // The probes have no token.
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "http");
    }
}

#[test]
fn monitors_ask_by_https_where_metrics_are_secure() {
    let secure = ["metrics.secure.enabled=true", "networkPolicy.enabled=true"];
    let service = [&secure[..], &["metrics.serviceMonitor.enabled=true"]].concat();
    let objects = chart(&service);
    let operator = find(&objects, "Deployment", "signingkeyring-operator");
    let port = &operator["spec"]["template"]["spec"]["containers"][0]["ports"][1];
    let policy = find(&objects, "NetworkPolicy", "signingkeyring-operator");
    let ports = json!([{"ports": [{"protocol": "TCP", "port": port["name"]}]}]);
    assert_eq!(policy["spec"]["ingress"], ports, "the other port is the node's to ask");
    let of_service = &find(&objects, "Service", "signingkeyring-operator")["spec"]["ports"][0];
    assert_eq!(of_service["targetPort"], port["name"]);
    assert_eq!(of_service["port"], port["containerPort"]);
    let monitor = find(&objects, "ServiceMonitor", "signingkeyring-operator");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], of_service["name"]);
    assert_eq!(endpoint["scheme"], "https");
    assert!(endpoint["bearerTokenFile"].as_str().unwrap().ends_with("serviceaccount/token"));
    assert_eq!(endpoint["tlsConfig"], json!({"insecureSkipVerify": true}));

    let pods = [&secure[..], &["metrics.podMonitor.enabled=true"]].concat();
    assert!(refused(&pods).contains("metrics.secure.tokenSecret"));
    let known =
        ["metrics.secure.tokenSecret=token", "metrics.secure.certificateSecret=certificate"];
    let objects = chart(&[&pods[..], &known].concat());
    let monitor = find(&objects, "PodMonitor", "signingkeyring-operator");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["port"], port["name"]);
    let credentials = json!({"credentials": {"name": "token", "key": "token"}});
    assert_eq!(endpoint["authorization"], credentials);
    let authority = json!({"secret": {"name": "certificate", "key": "ca.crt"}});
    let name = "signingkeyring-operator.signing-system.svc";
    assert_eq!(endpoint["tlsConfig"], json!({"ca": authority, "serverName": name}));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let cases = [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("replicas=0", "/replicas"),
        ("policyKind=Policy", "/policyKind"),
        ("guard.enabled=perhaps", "/guard/enabled"),
        ("exclusions.lists.gke[0].image=x", "missing property 'reason'"),
        ("acceptExclusions[0]=everybody", "/acceptExclusions/0"),
        ("image.digest=sha256:0", "/image/digest"),
        ("metrics.secure.readers[0].kind=Role", "/metrics/secure/readers/0"),
    ];
    for (value, words) in cases {
        let said = refused(&[value]);
        assert!(said.contains(words), "{value}: {said}");
    }
}
