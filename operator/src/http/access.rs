//! Who may read the metrics. The cluster says so, as it does of what its own components
//! serve: whose token it is (TokenReview), and whether they may get the path
//! (SubjectAccessReview).

use std::{collections::HashMap, time::Duration};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo},
    authorization::v1::{
        NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
        SubjectAccessReviewStatus,
    },
};
use kube::{
    Client, Resource,
    api::{PostParams, Request},
    client::Body,
    core::Status,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    error::{brief, is_code},
    lock::Mutex,
};

/// Longer ones are nobody's.
const LONGEST_TOKEN: usize = 16 * 1024;
/// How many answers are kept, and how long each counts: as long as it may take until who
/// lost the right is refused, and who got it is let in.
const ANSWERS: usize = 128;
const ALLOWED_FOR: Duration = Duration::from_secs(60);
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How many tokens are asked about at once, and how long each may take.
const QUESTIONS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);
/// That nobody can be told is said again after so long.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Whose token it is may read the metrics.
    Allowed,
    /// There is no token, or nobody's.
    Unauthorized,
    /// Whose token it is may not.
    Forbidden,
    /// The API server does not say.
    Unknown,
}

/// Asks the cluster who may read the metrics, and remembers for a moment what it said.
pub(super) struct Access {
    client: Client,
    path: &'static str,
    questions: Semaphore,
    answers: Mutex<Answers>,
    /// What was said last of who cannot be told, and when.
    said: Mutex<Option<(Instant, String)>>,
}

impl Access {
    pub(super) fn new(client: Client, path: &'static str) -> Self {
        let questions = Semaphore::new(QUESTIONS);
        Self { client, path, questions, answers: Mutex::default(), said: Mutex::default() }
    }

    /// What becomes of a request with these headers.
    pub(super) async fn judge(&self, headers: &HeaderMap) -> Answer {
        let Some(token) = bearer(headers) else { return Answer::Unauthorized };
        let digest = Sha256::digest(token).into();
        if let Some(answer) = self.answers.lock().get(&digest, Instant::now()) {
            return answer;
        }
        let why = match timeout(PATIENCE, self.ask(token)).await {
            Ok(Ok(answer)) => {
                self.answers.lock().put(digest, answer, Instant::now());
                return answer;
            }
            Ok(Err(error)) if is_code(&error, 403) => format!(
                "{}. Give it these rights (manifests/secure-metrics; the chart does with \
                 metrics.secure.enabled)",
                brief(&error)
            ),
            Ok(Err(error)) => brief(&error),
            Err(_) => "no answer".to_owned(),
        };
        // What could not be read may be quoted.
        let why = why.replace(token, "…");
        if self.is_news(&why) {
            warn!(error = why, "who asks for metrics cannot be told, and is refused");
        }
        Answer::Unknown
    }

    /// Whether this is to be said, or was said a moment ago: anybody may ask.
    fn is_news(&self, why: &str) -> bool {
        let (mut said, now) = (self.said.lock(), Instant::now());
        let is_known =
            |(at, what): &(Instant, String)| what == why && now.duration_since(*at) < SAID_AGAIN;
        if said.as_ref().is_some_and(is_known) {
            return false;
        }
        *said = Some((now, why.to_owned()));
        true
    }

    async fn ask(&self, token: &str) -> kube::Result<Answer> {
        // Nobody closes it.
        let _turn = self.questions.acquire().await.ok();
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let question = TokenReview { spec, ..TokenReview::default() };
        let said: Option<TokenReviewStatus> = review(&self.client, &question, token).await?;
        let Some(user) = said.filter(|said| said.authenticated == Some(true)) else {
            return Ok(Answer::Unauthorized);
        };
        let question = may_get(self.path, user.user.unwrap_or_default());
        let said: Option<SubjectAccessReviewStatus> =
            review(&self.client, &question, token).await?;
        let allowed = said.is_some_and(|said| said.allowed && said.denied != Some(true));
        Ok(if allowed { Answer::Allowed } else { Answer::Forbidden })
    }
}

/// The token of a request, if it has one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    let is_one =
        scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN;
    is_one.then_some(token)
}

/// Whether a user may get a path that is no resource's.
fn may_get(path: &str, user: UserInfo) -> SubjectAccessReview {
    let attributes =
        NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
    let spec = SubjectAccessReviewSpec {
        user: user.username,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        non_resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

/// Asks for a review. The answer is read by no function of the client library's that logs
/// what it cannot read, and without the token: a TokenReview has that in it, and whoever
/// answers in the API server's place may repeat it.
async fn review<K, S>(client: &Client, question: &K, token: &str) -> kube::Result<Option<S>>
where
    K: Resource<DynamicType = ()> + Serialize,
    S: DeserializeOwned,
{
    #[derive(Deserialize)]
    struct Reviewed<S> {
        status: Option<S>,
    }
    let body = serde_json::to_vec(question).map_err(kube::Error::SerdeError)?;
    let request = Request::new(K::url_path(&(), None)).create(&PostParams::default(), body);
    let request = request.map_err(kube::Error::BuildRequest)?.map(Body::from);
    let (head, body) = client.send(request).await?.into_parts();
    let answer = body.collect_bytes().await?;
    if !head.status.is_success() {
        let unread = || Status::failure("an answer that is none of the API server's", "");
        let mut said: Status = serde_json::from_slice(&answer).unwrap_or_else(|_| unread());
        said.message = said.message.replace(token, "…");
        return Err(kube::Error::Api(said.with_code(head.status.as_u16()).boxed()));
    }
    let reviewed: Reviewed<S> = serde_json::from_slice(&answer).map_err(kube::Error::SerdeError)?;
    Ok(reviewed.status)
}

/// What was answered, by the digest of the token, and until when it counts.
#[derive(Default)]
struct Answers(HashMap<[u8; 32], (Instant, Answer)>);

impl Answers {
    fn get(&self, token: &[u8; 32], now: Instant) -> Option<Answer> {
        self.0.get(token).filter(|(until, _)| now < *until).map(|(_, answer)| *answer)
    }

    /// Where there is no room, what counts for the shortest time goes, so that who is
    /// refused again and again does not push out who is let in.
    fn put(&mut self, token: [u8; 32], answer: Answer, now: Instant) {
        let lasts = if answer == Answer::Allowed { ALLOWED_FOR } else { REFUSED_FOR };
        self.0.retain(|_, (until, _)| now < *until);
        if self.0.len() >= ANSWERS {
            let first = self.0.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key);
            first.and_then(|key| self.0.remove(&key));
        }
        self.0.insert(token, (now + lasts, answer));
    }
}

#[cfg(test)]
mod tests;
