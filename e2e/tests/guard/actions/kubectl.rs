//! How kubectl is asked for an action.

use anyhow::Result;
use signingkeyring_e2e_testbed::world::World;

use super::{Action, Verb};
use crate::{
    said::Said,
    users::{OPERATOR, User},
};

impl Action {
    /// Tries it by kubectl; nothing where kubectl has no command for it.
    pub async fn kubectl(&self, world: &World, user: User, dry_run: bool) -> Result<Option<Said>> {
        let (group, _, _, plural) = self.kind;
        let resource = format!("{plural}.{group}");
        let resource = resource.trim_end_matches('.');
        let (mut words, input) = match &self.verb {
            Verb::Create(body) => (vec!["create", "--filename=-"], self.whole(body).to_string()),
            Verb::Apply(body) => (
                vec![
                    "apply",
                    "--server-side",
                    "--force-conflicts",
                    "--field-manager=gitops",
                    "--filename=-",
                ],
                self.whole(body).to_string(),
            ),
            Verb::Patch("", _) => {
                (vec!["patch", resource, &self.name, "--type=merge"], String::new())
            }
            Verb::Patch("resize", _) => (
                vec!["patch", resource, &self.name, "--type=merge", "--subresource=resize"],
                String::new(),
            ),
            Verb::DeleteAll => (
                vec!["delete", resource, "--selector=guarded=collection", "--wait=false"],
                String::new(),
            ),
            Verb::Replace("status", change) => (
                vec!["replace", "--subresource=status", "--filename=-"],
                self.changed(world, change).await?.to_string(),
            ),
            Verb::Replace(sub, change) => {
                let path = self.path(sub, dry_run);
                let words = ["replace", "--raw", &path, "--filename=-"];
                let whole = self.changed(world, change).await?.to_string();
                return said_to(world, user, &words, &whole).await.map(Some);
            }
            Verb::Post(sub, body) => {
                let path = self.path(sub, dry_run);
                let words = ["create", "--raw", &path, "--filename=-"];
                return said_to(world, user, &words, &body.to_string()).await.map(Some);
            }
            // It reads the status first, which the operator may not.
            Verb::Patch("status", _) if user != OPERATOR => (
                vec!["patch", resource, &self.name, "--type=merge", "--subresource=status"],
                String::new(),
            ),
            Verb::Delete => (vec!["delete", resource, &self.name, "--wait=false"], String::new()),
            Verb::Patch(..) => return Ok(None),
        };
        let (mut body, namespace) = (String::new(), format!("--namespace={}", self.namespace));
        if let Verb::Patch(_, patch) = &self.verb {
            body = format!("--patch={patch}");
        }
        if !body.is_empty() {
            words.push(&body);
        }
        if !self.namespace.is_empty() {
            words.push(&namespace);
        }
        if dry_run {
            words.push("--dry-run=server");
        }
        said_to(world, user, &words, &input).await.map(Some)
    }

    /// Where a subresource of the object is.
    fn path(&self, sub: &str, dry_run: bool) -> String {
        let (group, version, _, plural) = self.kind;
        let base = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let of = match self.namespace {
            "" => String::new(),
            namespace => format!("/namespaces/{namespace}"),
        };
        let dry = if dry_run { "?dryRun=All" } else { "" };
        format!("{base}/{version}{of}/{plural}/{}/{sub}{dry}", self.name)
    }
}

/// What a user is told by kubectl.
async fn said_to(world: &World, user: User, words: &[&str], input: &str) -> Result<Said> {
    let who = format!("--as={}", user.user);
    match world.run("kubectl", &[words, &[&who]].concat(), &[], input).await {
        Ok(_) => Ok(Said::Yes),
        Err(error) => Said::of_words(&format!("{error:#}")),
    }
}
