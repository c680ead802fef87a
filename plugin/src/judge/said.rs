//! Verdicts in words.

use signingkeyring_inspect::{Format, Refusal, Signer, State};

/// Who signed an image: `version 3`, `version 1 of payments`, in brief.
pub fn signed_by(ring: &str, signers: &[Signer]) -> String {
    let mut said: Vec<String> = Vec::new();
    for signer in signers {
        let whose = match signer.ring == ring {
            true => String::new(),
            false => format!(" of {}", signer.ring),
        };
        let format = match signer.format {
            Format::Tag => "",
            Format::Bundle => ", in a bundle",
        };
        said.push(format!("version {}{whose} ({:?}{format})", signer.version, signer.state));
    }
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

/// Why an image is refused, and what helps.
pub fn refusal(ring: &str, why: Option<Refusal>, signers: &[Signer]) -> String {
    let Some(why) = why else {
        return "it is no reference that everybody reads alike; write registry/path:tag in lower \
                case"
            .to_owned();
    };
    match why {
        Refusal::Unsigned => "it has no signature: have the pipeline sign it".to_owned(),
        Refusal::UnknownKey => {
            "it is signed by keys alone that no ring knows: sign it with the ring's".to_owned()
        }
        Refusal::NotAccepted => match signers.iter().find(|signer| signer.ring == ring) {
            Some(Signer { version, state: State::Revoked, .. }) => {
                format!("version {version} signed it, which is revoked: build and sign it anew")
            }
            Some(signer) => {
                format!("version {} signed it, which is retired: sign it again", signer.version)
            }
            None => {
                let others: Vec<&str> = signers.iter().map(|signer| &*signer.ring).collect();
                format!(
                    "it is signed by another ring ({}): sign it with this one",
                    others.join(", ")
                )
            }
        },
        Refusal::OtherImage => {
            "its signature is another image's and was copied here: sign this one".to_owned()
        }
        Refusal::OtherFormat => {
            "it is signed in a bundle, which a ClusterPolicy does not read: sign with \
             --new-bundle-format=false"
                .to_owned()
        }
        Refusal::OnlyAttested => "it has an attestation and no signature: sign it".to_owned(),
        Refusal::BundleBeside => {
            "a bundle lies beside its .sig tag, so that this is not looked at: sign in a bundle, \
             too"
            .to_owned()
        }
        Refusal::NoPlatform => {
            "it is an index without linux/amd64, of which Kyverno reads nothing".to_owned()
        }
    }
}
