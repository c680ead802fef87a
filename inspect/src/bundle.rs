//! Sigstore's bundles, version 0.3: a DSSE envelope with an in-toto statement.
//!
//! Kyverno takes for a bundle what its library reads as one, and looks past everything
//! else that refers to an image. So fields that the format does not have make it none,
//! as they do there.

use std::collections::BTreeMap;

use base64ct::{Base64Unpadded, Encoding as _};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    digest,
    inspection::{Bundle, Content},
};

/// What the media types of bundles begin with.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// The type of an envelope's payload that is a statement.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// The entries of a transparency log, and subjects of a statement, of which no more are
/// read by Kyverno's library.
const MAX_LOG_ENTRIES: usize = 32;
const MAX_SUBJECTS: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Text {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: Option<PublicKey>,
    certificate: Option<Value>,
    #[serde(default)]
    tlog_entries: Vec<LogEntry>,
    #[serde(rename = "timestampVerificationData")]
    _timestamps: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKey {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    inclusion_proof: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    #[serde(default)]
    payload: String,
    #[serde(default)]
    payload_type: String,
    #[serde(default)]
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    #[serde(default)]
    sig: String,
    #[serde(rename = "keyid")]
    _key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(default)]
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Reads a bundle that refers to an image with this digest. Nothing if it is none.
pub(crate) fn parse(text: &[u8], image: &str) -> Option<Bundle> {
    let text: Text = serde_json::from_slice(text).ok()?;
    let Material { public_key, certificate, tlog_entries, .. } = text.verification_material;
    let is_logged =
        tlog_entries.is_empty() || tlog_entries.iter().any(|entry| entry.inclusion_proof.is_some());
    let is_bundle = is_version_3(&text.media_type)
        && text.dsse_envelope.is_some() != text.message_signature.is_some()
        && public_key.is_some() != certificate.is_some()
        && is_logged
        && tlog_entries.len() <= MAX_LOG_ENTRIES;
    let content = text.dsse_envelope.filter(|_| public_key.is_some());
    let content =
        content.and_then(|envelope| statement(&envelope, image)).unwrap_or(Content::Other);
    is_bundle.then(|| Bundle { hint: public_key.map(|key| key.hint), content })
}

/// Whether a media type is that of version 0.3, or of a patch to it.
fn is_version_3(media_type: &str) -> bool {
    let version = media_type.strip_prefix(MEDIA_TYPE);
    let patch = |version: &str| {
        let patch = version.strip_prefix(".v0.3")?.strip_suffix("+json")?;
        patch.is_empty().then_some(()).or_else(|| {
            let number = patch.strip_prefix('.')?;
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            is_number.then_some(())
        })
    };
    version.is_some_and(|version| version == "+json;version=0.3" || patch(version).is_some())
}

/// The statement in an envelope, which has one signature by the format.
fn statement(envelope: &Envelope, image: &str) -> Option<Content> {
    let [signature] = envelope.signatures.as_slice() else { return None };
    if envelope.payload_type != STATEMENT {
        return None;
    }
    let payload = decode(&envelope.payload)?;
    let statement: Statement = serde_json::from_slice(&payload).ok()?;
    Some(Content::Statement {
        names_image: statement.names(image),
        predicate: statement.predicate_type,
        signed: digest::of(&authenticated(&envelope.payload_type, &payload)),
        signature: decode(&signature.sig)?,
    })
}

impl Statement {
    fn names(&self, image: &str) -> bool {
        let is_hex = |text: &str| {
            text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let digests = || self.subject.iter().flat_map(|subject| &subject.digest);
        let hex = image.strip_prefix("sha256:");
        self.subject.len() <= MAX_SUBJECTS
            && digests().all(|(_, digest)| is_hex(digest))
            && digests().any(|(name, digest)| name == "sha256" && Some(digest.as_str()) == hex)
    }
}

/// What is signed of an envelope: DSSE's pre-authentication encoding.
fn authenticated(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Base64 of either alphabet, padded or not, as JSON of protocol buffers may have it.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    Base64Unpadded::decode_vec(&text).ok()
}

#[cfg(test)]
mod tests;
