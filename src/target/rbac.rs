//! Roles and bindings (kubeadm's `bootstraptoken`, `kubelet`, `uploadconfig` and `kubeconfig`
//! phases).

use serde_json::{Value, json};

use super::desired::{Desired, Stage};

/// Group of bootstrap tokens that kubeadm makes (`NodeBootstrapTokenAuthGroup`).
pub(super) const BOOTSTRAP_TOKENS: &str = "system:bootstrappers:kubeadm:default-node-token";
const NODES: &str = "system:nodes";
const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn group(name: &str) -> Value {
    json!({"kind": "Group", "name": name})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

pub(super) fn service_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})
}

/// Rights of identities that exist in certificates only: the administrators' group, and the API
/// server's client certificate for kubelets, which has no group since 1.37.0 and the patch
/// releases of May 2026 (kubernetes#138957). The latter is made for every version: harmless on
/// older ones, and there before a certificate without the group.
pub(super) fn certificate_identities() -> Vec<Desired> {
    vec![
        cluster_role_binding(
            Stage::Access,
            "kubeadm:cluster-admins",
            "cluster-admin",
            &[group("kubeadm:cluster-admins")],
        ),
        cluster_role_binding(
            Stage::Access,
            "kubeadm:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            &[user("kube-apiserver-kubelet-client")],
        ),
    ]
}

/// What nodes and bootstrap tokens may do.
pub(super) fn nodes_and_bootstrap() -> Vec<Desired> {
    let tokens = [group(BOOTSTRAP_TOKENS)];
    let mut objects = vec![cluster_role(
        "kubeadm:get-nodes",
        json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]),
    )];
    let bindings = [
        ("kubeadm:get-nodes", "kubeadm:get-nodes", &tokens),
        (
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            &tokens,
        ),
        (
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            &tokens,
        ),
        (
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            &[group(NODES)],
        ),
    ];
    for (name, role, subjects) in bindings {
        objects.push(cluster_role_binding(
            Stage::Foundation,
            name,
            role,
            subjects,
        ));
    }
    objects.extend(config_map_readers(
        "kube-system",
        "kubeadm:nodes-kubeadm-config",
        "kubeadm-config",
        &[group(BOOTSTRAP_TOKENS), group(NODES)],
    ));
    objects.extend(config_map_readers(
        "kube-system",
        "kubeadm:kubelet-config",
        "kubelet-config",
        &[group(NODES), group(BOOTSTRAP_TOKENS)],
    ));
    objects.extend(config_map_readers(
        "kube-public",
        "kubeadm:bootstrap-signer-clusterinfo",
        "cluster-info",
        &[user("system:anonymous")],
    ));
    objects
}

/// A Role that lets one ConfigMap be read, and its binding of the same name.
pub(super) fn config_map_readers(
    namespace: &str,
    name: &str,
    config_map: &str,
    subjects: &[Value],
) -> [Desired; 2] {
    let metadata = json!({"name": name, "namespace": namespace});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": [{
            "apiGroups": [""],
            "resourceNames": [config_map],
            "resources": ["configmaps"],
            "verbs": ["get"],
        }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
        "subjects": subjects,
    });
    [role, binding].map(|object| Desired::new(Stage::Foundation, object))
}

pub(super) fn cluster_role(name: &str, rules: Value) -> Desired {
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    });
    Desired::new(Stage::Foundation, object)
}

pub(super) fn cluster_role_binding(
    stage: Stage,
    name: &str,
    role: &str,
    subjects: &[Value],
) -> Desired {
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    });
    Desired::new(stage, object)
}
