//! What the transport answers in the API server's place.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::json;
use tower::BoxError;

use super::fault::WriteFault;

/// A response's body as the operator's client receives it.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// The API server's response to a write that it will not do.
#[must_use]
pub fn refused(fault: WriteFault, creates: bool) -> Response<ResponseBody> {
    let (code, reason) = match fault {
        WriteFault::Conflict if creates => (StatusCode::CONFLICT, "AlreadyExists"),
        WriteFault::Conflict => (StatusCode::CONFLICT, "Conflict"),
        WriteFault::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused by the fault harness", "reason": reason, "code": code.as_u16(),
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

/// A body that is all there.
#[must_use]
pub fn full(body: Bytes) -> ResponseBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
