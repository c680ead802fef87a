//! Who the tests are: ordinary users with the rights of a tenant, a team, a platform.

use anyhow::Result;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use signingkeyring_e2e_testbed::world::World;

/// Somebody, by the name that the API server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// As the table names it.
    pub name: &'static str,
    /// To the API server.
    pub user: &'static str,
}

const fn user(name: &'static str) -> User {
    User { name, user: name }
}

/// An admin of the application's namespaces.
pub const TENANT: User = user("tenant");
/// May label and delete namespaces.
pub const LABELLER: User = user("labeller");
/// The same, with the verb enroll on ring shop, and on the value that is no ring's.
pub const ENROLLER: User = user("enroller");
/// The same as labeller, with the verb operate.
pub const INSTALLER: User = user("installer");
/// May rotate ring shop.
pub const ROTATOR: User = user("rotator");
/// May edit rings, and read the Secret keys of namespace guarded.
pub const EDITOR: User = user("editor");
/// Has every right on Kyverno's policies and on Secrets.
pub const PLATFORM: User = user("platform");
/// Has every right on Pods and their subresources.
pub const PODDER: User = user("podder");
/// Is bound to cluster-admin.
pub const ADMIN: User = user("cluster-admin");
/// The operator.
pub const OPERATOR: User =
    User { name: "operator", user: "system:serviceaccount:signing-system:signingkeyring-operator" };
/// Kubernetes' controller that ends namespaces.
pub const NAMESPACES: User =
    User { name: "ns-controller", user: "system:serviceaccount:kube-system:namespace-controller" };

/// All of them.
pub const ALL: [User; 11] = [
    TENANT, LABELLER, ENROLLER, INSTALLER, ROTATOR, EDITOR, PLATFORM, PODDER, ADMIN, OPERATOR,
    NAMESPACES,
];

impl User {
    /// A client that is this user.
    pub async fn client(self, world: &World) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&world.info.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.auth_info.impersonate = Some(self.user.to_owned());
        Ok(Client::try_from(config)?)
    }
}

/// The rights of the users, those of Kyverno's chart for every namespace's admin
/// among them.
pub const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kyverno-policies-of-admins, labels: {rbac.authorization.k8s.io/aggregate-to-admin: "true"}}
rules:
- apiGroups: [kyverno.io]
  resources: [cleanuppolicies, clustercleanuppolicies, policies, clusterpolicies, policyexceptions]
  verbs: [create, delete, get, list, patch, update, watch]
- apiGroups: [policies.kyverno.io]
  resources: [namespacedgeneratingpolicies, namespacedimagevalidatingpolicies, namespacedmutatingpolicies, namespacedvalidatingpolicies, policyexceptions]
  verbs: [create, delete, get, list, patch, update, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: labels-namespaces}
rules: [{apiGroups: [""], resources: [namespaces, namespaces/status, namespaces/finalize], verbs: [get, create, update, patch, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: enrolls-shop}
rules: [{apiGroups: [signing.odj.cloud], resources: [signingkeyrings], resourceNames: [shop, signing-gate], verbs: [enroll]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: operates}
rules: [{apiGroups: [signing.odj.cloud], resources: [signingkeyrings], verbs: [operate]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: rotates-shop}
rules: [{apiGroups: [signing.odj.cloud], resources: [signingkeyrings], resourceNames: [shop], verbs: [get, patch, rotate]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: edits-rings}
rules: [{apiGroups: [signing.odj.cloud], resources: [signingkeyrings], verbs: [get, create, update, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reads-keys, namespace: guarded}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [keys], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reads-keys, namespace: guarded}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reads-keys}
subjects: [{kind: User, name: editor, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: runs-kyverno}
rules:
- {apiGroups: [kyverno.io, policies.kyverno.io], resources: ["*"], verbs: ["*"]}
- {apiGroups: [""], resources: [secrets], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: runs-pods}
rules: [{apiGroups: [""], resources: [pods, pods/status, pods/resize, pods/ephemeralcontainers, pods/binding, bindings], verbs: ["*"]}]
"#;

/// Who has which of them in the whole cluster, and in which namespaces tenant is admin.
const BOUND: [(&str, &str); 10] = [
    ("labeller", "labels-namespaces"),
    ("enroller", "labels-namespaces"),
    ("enroller", "enrolls-shop"),
    ("installer", "labels-namespaces"),
    ("installer", "operates"),
    ("rotator", "rotates-shop"),
    ("editor", "edits-rings"),
    ("platform", "runs-kyverno"),
    ("podder", "runs-pods"),
    ("cluster-admin", "cluster-admin"),
];

/// Creates the users' rights.
pub async fn bind(world: &World) -> Result<()> {
    let mut all = RIGHTS.to_owned();
    for (user, role) in BOUND {
        all.push_str(&format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
             metadata: {{name: {user}-{role}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n\
             subjects: [{{kind: User, name: {user}, apiGroup: rbac.authorization.k8s.io}}]\n"
        ));
    }
    world.apply(&all).await?;
    Ok(())
}

/// Makes tenant an admin of a namespace.
pub async fn tenant_of(world: &World, namespace: &str) -> Result<()> {
    let binding = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
         metadata: {{name: tenant, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}\n\
         subjects: [{{kind: User, name: tenant, apiGroup: rbac.authorization.k8s.io}}]\n"
    );
    world.apply(&binding).await?;
    Ok(())
}
