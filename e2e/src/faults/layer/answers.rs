//! What requests say, and what the layer answers in the API server's place.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::Answer;
use crate::faults::{fault::WriteFault, view::Target};

/// The public key that a write hands to a pipeline.
pub(super) fn published(target: &Target, body: &[u8]) -> Option<String> {
    if target.resource != "secrets" || target.namespace.ends_with("-system") {
        return None;
    }
    let secret: Value = serde_json::from_slice(body).ok()?;
    let data = &secret["data"];
    let key = data["cosign.pub"].as_str().or(data["COSIGN_PUBLIC_KEY"].as_str())?;
    String::from_utf8(Base64::decode_vec(key).ok()?).ok()
}

pub(super) fn described(target: &Target) -> String {
    [&target.resource, &target.namespace, &target.name, &target.subresource]
        .into_iter()
        .filter(|word| !word.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join("/")
}

/// The API server's words for a write that it will not do.
pub(super) fn refused(fault: WriteFault, creates: bool) -> Response<Answer> {
    let (code, reason) = match fault {
        WriteFault::Conflict if creates => (StatusCode::CONFLICT, "AlreadyExists"),
        WriteFault::Conflict => (StatusCode::CONFLICT, "Conflict"),
        WriteFault::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the fault layer", "reason": reason, "code": code.as_u16(),
    });
    let mut response = Response::new(full(Bytes::from(status.to_string())));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(super) fn full(body: Bytes) -> Answer {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
