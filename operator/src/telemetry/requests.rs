//! The requests to the API server, by the names that Kubernetes' own components have for
//! them (`k8s.io/component-base/metrics/prometheus/restclient`). Without the host, of which
//! there is one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;
use tower::{Layer, Service};

/// Those that this process made, whether it leads or stands by.
#[derive(Clone, Debug)]
pub struct Requests {
    made: Family<Answered, Counter>,
    took: Family<Asked, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    /// `<error>` where there was no answer, or nobody waited for it.
    code: String,
    method: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    verb: String,
}

impl Default for Requests {
    fn default() -> Self {
        let took =
            || Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0]);
        Self { made: Family::default(), took: Family::new_with_constructor(took) }
    }
}

impl Requests {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "rest_client_requests",
            "Requests to the API server by method and code",
            self.made.clone(),
        );
        registry.register_with_unit(
            "rest_client_request_duration",
            "How long it took until an answer began",
            Unit::Seconds,
            self.took.clone(),
        );
    }

    fn begin(&self, method: String) -> Begun {
        let code = "<error>".to_owned();
        Begun { requests: self.clone(), method, code, at: Instant::now() }
    }
}

/// A request that is on its way. It counts when this goes: who asked may have given it up.
struct Begun {
    requests: Requests,
    method: String,
    code: String,
    at: Instant,
}

impl Begun {
    fn answered(&mut self, code: StatusCode) {
        code.as_str().clone_into(&mut self.code);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let took = self.at.elapsed().as_secs_f64();
        let (code, method) = (self.code.clone(), self.method.clone());
        self.requests.made.get_or_create(&Answered { code, method: method.clone() }).inc();
        self.requests.took.get_or_create(&Asked { verb: method }).observe(took);
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A client whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let mut begun = self.requests.begin(request.method().to_string());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                begun.answered(answer.status());
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn each_is_counted_by_what_came_of_it() {
        let requests = Requests::default();
        let service = requests.layer(service_fn(async |request: Request<u16>| {
            let code = *request.body();
            if code == 0 {
                Err("no answer")
            } else {
                Ok(Response::builder().status(code).body(()).unwrap())
            }
        }));
        for (method, code) in [("GET", 200), ("GET", 200), ("PATCH", 409), ("GET", 0)] {
            let request = Request::builder().method(method).body(code).unwrap();
            let _ = service.clone().oneshot(request).await;
        }
        // One that is given up.
        let hangs = requests.layer(service_fn(async |_: Request<u16>| {
            std::future::pending::<Result<Response<()>, &str>>().await
        }));
        let request = Request::builder().method("DELETE").body(0).unwrap();
        let patience = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(patience, hangs.oneshot(request)).await.is_err());
        let mut registry = Registry::default();
        requests.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "rest_client_requests_total{code=\"200\",method=\"GET\"} 2",
            "rest_client_requests_total{code=\"409\",method=\"PATCH\"} 1",
            "rest_client_requests_total{code=\"<error>\",method=\"GET\"} 1",
            "rest_client_requests_total{code=\"<error>\",method=\"DELETE\"} 1",
            "rest_client_request_duration_seconds_count{verb=\"GET\"} 3",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
