//! What cosign signs for a `.sig` tag: a JSON text that names an image.

use serde::Deserialize;

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Named,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Whether a payload names the image that has this digest.
pub(crate) fn names(payload: &[u8], digest: &str) -> bool {
    serde_json::from_slice::<Payload>(payload).is_ok_and(|p| p.critical.image.digest == digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_payload_names_one_digest() {
        let payload = |digest: &str| {
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"localhost:5000/a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
            )
        };
        assert!(names(payload(DIGEST).as_bytes(), DIGEST));
        assert!(!names(payload(&DIGEST.replace('0', "1")).as_bytes(), DIGEST));
        for other in ["", "{}", "[]", r#"{"critical":null}"#, r#"{"critical":{"image":{}}}"#] {
            assert!(!names(other.as_bytes(), DIGEST), "{other}");
        }
    }
}
