//! Who the operator is to the API server, asked of it: what is installed may be
//! called by any name.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams};
use signingkeyring_core::{account::Account, names};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::error::{brief, is_code};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until there is an answer. Where nobody may ask, it is called as in the
/// manifests.
pub(crate) async fn ask(client: &Client, namespace: &str) -> Account {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    loop {
        let review = SelfSubjectReview::default();
        let params = PostParams::default();
        let why = match timeout(PATIENCE, reviews.create(&params, &review)).await {
            Ok(Ok(answer)) => {
                let user = answer.status.and_then(|status| status.user_info);
                match user.and_then(|user| user.username) {
                    Some(name) => {
                        info!(name, "known to the API server");
                        return Account::of_user_name(&name);
                    }
                    None => "the answer names nobody".to_owned(),
                }
            }
            Ok(Err(error)) if [403, 404, 405].iter().any(|code| is_code(&error, *code)) => {
                warn!(error = brief(&error), "who this is to the API server may not be asked");
                let namespace = namespace.to_owned();
                return Account::Service { namespace, name: names::SERVICE_ACCOUNT.to_owned() };
            }
            Ok(Err(error)) => brief(&error),
            Err(_) => "no answer".to_owned(),
        };
        warn!(error = why, "asking again who this is to the API server");
        sleep(PAUSE).await;
    }
}
