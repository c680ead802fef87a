//! The kinds of policy, as a run of the tests sees them from outside: what their
//! objects are called and hold, and in which words they refuse.

use std::{env, fmt};

use serde_json::{Value, json};

/// The variable that says which kind a run of the tests is about. The operator has
/// the same one.
pub const VARIABLE: &str = "SIGNING_POLICY_KIND";

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `kyverno.io/v1`.
    ClusterPolicy,
    /// `policies.kyverno.io/v1`.
    ImageValidatingPolicy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ClusterPolicy, Self::ImageValidatingPolicy];

    /// The one that this run is about: what [`VARIABLE`] says, or the operator's default.
    ///
    /// # Panics
    /// If the variable names none: a run about nothing would pass.
    #[must_use]
    pub fn under_test() -> Self {
        let Ok(name) = env::var(VARIABLE) else { return Self::ClusterPolicy };
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        assert!(kind.is_some(), "{VARIABLE}={name} is no kind of policy");
        kind.unwrap_or(Self::ClusterPolicy)
    }

    /// The kind of one of the operator's policies.
    #[must_use]
    pub fn of(policy: &str) -> Self {
        match policy.starts_with("signing.") {
            true => Self::ImageValidatingPolicy,
            false => Self::ClusterPolicy,
        }
    }

    /// As manifests name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "ClusterPolicy",
            Self::ImageValidatingPolicy => "ImageValidatingPolicy",
        }
    }

    /// As commands name it.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "clusterpolicy",
            Self::ImageValidatingPolicy => "imagevalidatingpolicy",
        }
    }

    /// The API group that serves it.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "kyverno.io",
            Self::ImageValidatingPolicy => "policies.kyverno.io",
        }
    }

    /// As the API's paths name it.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "clusterpolicies",
            Self::ImageValidatingPolicy => "imagevalidatingpolicies",
        }
    }

    /// The name of the operator's `number`th policy that enforces.
    #[must_use]
    pub fn enforce(self, number: u32) -> String {
        format!("{}enforce-{number:04}", self.prefix())
    }

    /// The name of the operator's `number`th policy that audits.
    #[must_use]
    pub fn audit(self, number: u32) -> String {
        format!("{}audit-{number:04}", self.prefix())
    }

    /// What the names of the operator's policies begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "signing-",
            Self::ImageValidatingPolicy => "signing.",
        }
    }

    /// What every refusal of an image without a signature of the ring's says.
    #[must_use]
    pub fn refusal(self, ring: &str) -> String {
        match self {
            Self::ClusterPolicy => format!("{ring}: 'failed to verify image"),
            Self::ImageValidatingPolicy => {
                format!("ring {ring}: not each of these images has a signature of an accepted key")
            }
        }
    }

    /// Why such an image is refused, in the kind's words.
    #[must_use]
    pub const fn unsigned(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "no signatures found",
            Self::ImageValidatingPolicy => "not each of these images has a signature",
        }
    }

    /// The public keys that a policy's spec accepts for a ring. Nothing if it holds
    /// no rule of the ring's.
    #[must_use]
    pub fn keys(self, spec: &Value, ring: &str) -> Option<Vec<String>> {
        match self {
            Self::ClusterPolicy => {
                let all = spec["rules"].as_array().into_iter().flatten();
                let rule = all.into_iter().find(|rule| rule["name"] == ring)?;
                let entries = rule["verifyImages"][0]["attestors"][0]["entries"].as_array();
                let keys = entries.into_iter().flatten();
                Some(texts(keys.map(|entry| &entry["keys"]["publicKeys"])))
            }
            Self::ImageValidatingPolicy => {
                let variables = spec["variables"].as_array().into_iter().flatten();
                let accepted = variables.into_iter().find(|v| v["name"] == "accepted")?;
                let accepted = accepted["expression"].as_str()?;
                // A CEL map of texts is JSON, and what is done with it follows.
                let mut json = serde_json::Deserializer::from_str(accepted).into_iter::<Value>();
                let accepted = json.next()?.ok()?;
                let names = accepted.get(ring)?.as_array()?;
                let attestors = spec["attestors"].as_array().into_iter().flatten();
                let of_ring = attestors.filter(|attestor| names.contains(&attestor["name"]));
                Some(texts(of_ring.map(|attestor| &attestor["cosign"]["key"]["data"])))
            }
        }
    }

    /// The images that a policy's spec excludes for a ring, as the kind compares them.
    #[must_use]
    pub fn excluded(self, spec: &Value, ring: &str) -> Vec<String> {
        match self {
            Self::ClusterPolicy => {
                let all = spec["rules"].as_array().into_iter().flatten();
                let rule = all.into_iter().find(|rule| rule["name"] == ring);
                let globs = rule.map(|rule| &rule["verifyImages"][0]["skipImageReferences"]);
                texts(globs.and_then(Value::as_array).into_iter().flatten())
            }
            Self::ImageValidatingPolicy => {
                let expression = spec["images"][0]["expression"].as_str().unwrap_or_default();
                let map =
                    expression.split_once('{').map_or("", |(bind, _)| &expression[bind.len()..]);
                let mut json = serde_json::Deserializer::from_str(map).into_iter::<Value>();
                let map = json.next().and_then(Result::ok).unwrap_or_default();
                // Those of the lists have no ring's name.
                let lists = ["", ring].map(|of| map[of].as_array().cloned().unwrap_or_default());
                texts(lists.iter().flatten())
            }
        }
    }

    /// The place in a policy where the images stand that it looks at for a ring, or does
    /// not look at.
    #[must_use]
    pub fn looked_at<'a>(self, policy: &'a mut Value, ring: &str) -> Option<&'a mut Value> {
        let spec = policy.get_mut("spec")?;
        match self {
            Self::ClusterPolicy => {
                let mut rules = spec.get_mut("rules")?.as_array_mut()?.iter_mut();
                let rule = rules.find(|rule| rule["name"] == ring)?;
                rule.pointer_mut("/verifyImages/0/skipImageReferences")
            }
            Self::ImageValidatingPolicy => spec.pointer_mut("/images/0/expression"),
        }
    }

    /// What stands there when it looks at none.
    #[must_use]
    pub fn nothing(self) -> Value {
        match self {
            Self::ClusterPolicy => json!(["*"]),
            Self::ImageValidatingPolicy => json!("[''].filter(i, i != '')"),
        }
    }

    /// Has a policy accept one more key for a ring. Nothing if it holds no rule of the
    /// ring's.
    pub fn accept(self, policy: &mut Value, ring: &str, public_key: &str) -> Option<()> {
        let spec = policy.get_mut("spec")?;
        match self {
            Self::ClusterPolicy => {
                let mut rules = spec.get_mut("rules")?.as_array_mut()?.iter_mut();
                let rule = rules.find(|rule| rule["name"] == ring)?;
                let entries = rule.pointer_mut("/verifyImages/0/attestors/0/entries")?;
                let mut entry = entries.get(0)?.clone();
                entry["keys"]["publicKeys"] = json!(public_key);
                entries.as_array_mut()?.push(entry);
            }
            Self::ImageValidatingPolicy => {
                let attestors = spec.get_mut("attestors")?.as_array_mut()?;
                for name in ["stranger", "strangerb"] {
                    let mut attestor = attestors.get(usize::from(name.ends_with('b')))?.clone();
                    attestor["name"] = json!(name);
                    attestor["cosign"]["key"]["data"] = json!(public_key);
                    attestors.push(attestor);
                }
                let variables = spec.get_mut("variables")?.as_array_mut()?;
                let accepted = variables.iter_mut().find(|v| v["name"] == "accepted")?;
                let text = accepted["expression"].as_str()?;
                let of_ring = format!("\"{ring}\":[");
                accepted["expression"] =
                    json!(text.replace(&of_ring, &format!("{of_ring}\"stranger\",")));
            }
        }
        Some(())
    }

    /// The namespace in which Kyverno is asked about the operator's policies.
    #[must_use]
    pub const fn asked_in(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "signing-system",
            Self::ImageValidatingPolicy => "signing-probe",
        }
    }

    /// What the name of the webhook begins with by which Kyverno is asked, where it
    /// refuses what it cannot verify.
    #[must_use]
    pub const fn webhook(self) -> &'static str {
        match self {
            Self::ClusterPolicy => "mutate.kyverno.svc-fail",
            Self::ImageValidatingPolicy => "ivpol.validate.kyverno.svc-fail",
        }
    }

    /// The group and the plural of what is asked there.
    #[must_use]
    pub const fn question(self) -> (&'static str, &'static str) {
        match self {
            Self::ClusterPolicy => ("signing.odj.cloud", "gatequestions"),
            Self::ImageValidatingPolicy => ("", "configmaps"),
        }
    }

    /// The label values that the spec of a policy for labels without a ring covers.
    #[must_use]
    pub fn covered(self, spec: &Value) -> Vec<String> {
        let values = match self {
            Self::ClusterPolicy => {
                let all = spec["rules"].as_array().into_iter().flatten();
                let mut of_values = all.filter(|rule| rule["name"] == "signing-gate.unknown");
                of_values.next().and_then(|rule| {
                    let any = &rule["match"]["any"][0]["resources"]["namespaceSelector"];
                    any.pointer("/matchExpressions/0/values")
                })
            }
            Self::ImageValidatingPolicy => {
                spec.pointer("/matchConstraints/namespaceSelector/matchExpressions/0/values")
            }
        };
        let values = values.and_then(Value::as_array).into_iter().flatten();
        let mut values = texts(values);
        // That of the namespace where the policy is asked.
        values.retain(|value| value != "signing-gate");
        values
    }
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
