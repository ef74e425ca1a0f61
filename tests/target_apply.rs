//! The objects of the target against a real API server: made once, kept, and otherwise left alone.
//! The testbed's seed stands for the target.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/control_plane.rs"]
mod fixture;
#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::BTreeMap;
use std::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fixture::{control_plane, taint};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use secrecy::ExposeSecret as _;
use seedbed::domain::{ControlPlane, HostPort, NodeName};
use seedbed::pki::KeyPair;
use seedbed::target::{
    Applied, Desired, NodeView, Readiness, Stage, apply, connect, desired_objects, mark_nodes,
    node_marks, nodes, readyz,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{Seed, StateDir, seed};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const CA: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

/// A control plane whose DNS address lies in the seed's range of service addresses.
fn of_the_seed() -> ControlPlane {
    let mut control_plane = control_plane();
    control_plane.service_cidrs = vec!["198.19.255.0/24".parse().unwrap()];
    control_plane
}

fn objects(control_plane: &ControlPlane) -> Vec<Desired> {
    desired_objects(control_plane, CA).unwrap()
}

#[tokio::test]
async fn objects_are_made_kept_and_otherwise_left_alone() {
    let state = StateDir::for_test("target-apply").unwrap();
    let options = seed::Options {
        // Without it nobody else applies or patches, so that our requests can be counted.
        controller_manager: false,
        ..seed::Options::default()
    };
    let seed = Seed::start(&state, options).await.unwrap();
    let client = client_of(&seed);
    assert_eq!(readyz(&client).await, Readiness::Ready);

    one_bad_object_does_not_stop_the_others(&client).await;
    everything_is_in_place_then_nothing_is_written(&client).await;
    identities_in_certificates_come_first(&client).await;
    what_is_taken_away_or_changed_comes_back(&client).await;
    tokens_signatures_survive(&client).await;
    what_is_the_peoples_own_stays(&client).await;
    a_change_of_the_spec_is_applied(&client).await;
    nodes_are_marked(&client).await;
    marks_follow_the_spec(&client).await;
}

async fn one_bad_object_does_not_stop_the_others(client: &Client) {
    // The default range is not the seed's: kube-dns asks for an address that it cannot have.
    let objects = objects(&control_plane());
    let applied = apply(client, &objects).await;
    assert_eq!(applied.written, objects.len() - 1, "{applied:?}");
    assert!(!applied.in_place);
    let [problem] = &applied.problems[..] else {
        panic!("{applied:?}")
    };
    assert_eq!(problem.object, "Service kube-system/kube-dns");
    assert!(problem.message.contains("10.96.0.10"), "{problem:?}");
}

async fn everything_is_in_place_then_nothing_is_written(client: &Client) {
    let objects = objects(&of_the_seed());
    let applied = apply(client, &objects).await;
    assert!(applied.in_place, "{applied:?}");
    // kube-dns and kubelet-config and kubeadm-config, which hold the range.
    assert_eq!(applied.written, 3, "{applied:?}");
    let (requests, versions) = (writes(client).await, versions(client).await);
    assert!(requests >= objects.len() as u64, "{requests} are counted");
    for _ in 0..3 {
        assert_settled(&apply(client, &objects).await);
    }
    assert_eq!(writes(client).await, requests);
    assert_eq!(self::versions(client).await, versions);
}

async fn identities_in_certificates_come_first(client: &Client) {
    let objects = objects(&of_the_seed());
    let versions = versions(client).await;
    let created = |object: &Desired| versions[&object.to_string()];
    let access: Vec<&Desired> = objects
        .iter()
        .filter(|object| object.stage == Stage::Access)
        .collect();
    assert_eq!(
        access
            .iter()
            .map(|object| object.name())
            .collect::<Vec<_>>(),
        ["kubeadm:cluster-admins", "kubeadm:apiserver-kubelet-client"]
    );
    let last_access = access.iter().map(|object| created(object)).max();
    for object in objects
        .iter()
        .filter(|object| object.stage != Stage::Access)
    {
        assert!(
            Some(created(object)) > last_access,
            "{object} came too early"
        );
    }
}

async fn what_is_taken_away_or_changed_comes_back(client: &Client) {
    let objects = objects(&of_the_seed());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let before = versions(client).await;
    let name = "kubeadm:get-nodes";
    bindings
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    let readers: Api<RoleBinding> = Api::namespaced(client.clone(), "kube-system");
    let patch = json!({"subjects": [{"kind": "Group", "name": "intruders", "apiGroup": "rbac.authorization.k8s.io"}]});
    edit(&readers, "kubeadm:kubelet-config", patch).await;

    let applied = apply(client, &objects).await;
    assert!(applied.in_place, "{applied:?}");
    assert_eq!(applied.written, 2);
    let after = versions(client).await;
    let changed: Vec<&String> = after
        .iter()
        .filter(|(name, version)| before.get(*name) != Some(version))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        changed,
        [
            "ClusterRoleBinding kubeadm:get-nodes",
            "RoleBinding kube-system/kubeadm:kubelet-config"
        ]
    );
    assert_settled(&apply(client, &objects).await);
}

async fn tokens_signatures_survive(client: &Client) {
    let objects = objects(&of_the_seed());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    // As the bootstrap signer writes: an update of its own.
    let patch = json!({"data": {"jws-kubeconfig-abcdef": "signature"}});
    edit(&maps, "cluster-info", patch).await;
    assert_settled(&apply(client, &objects).await);
    let patch = json!({"data": {"kubeconfig": "broken"}});
    edit(&maps, "cluster-info", patch).await;
    let applied = apply(client, &objects).await;
    assert_eq!(
        (applied.written, applied.in_place),
        (1, true),
        "{applied:?}"
    );
    let data = maps.get("cluster-info").await.unwrap().data.unwrap();
    assert_eq!(data["jws-kubeconfig-abcdef"], "signature");
    assert!(data["kubeconfig"].contains("api.prod.example.net"));
}

async fn what_is_the_peoples_own_stays(client: &Client) {
    let control_plane = of_the_seed();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    edit(
        &maps,
        "coredns",
        json!({"data": {"Corefile": ".:53 {\n}\n"}}),
    )
    .await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let scaled = json!({"spec": {"replicas": 5}});
    edit(&deployments, "coredns", scaled).await;
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), "kube-system");
    let sidecar = json!({"spec": {"template": {
        "metadata": {"annotations": {"team": "net"}},
        "spec": {"containers": [{"name": "exporter", "image": "exporter"}]},
    }}});
    sets.patch(
        "kube-proxy",
        &PatchParams::default(),
        &Patch::Strategic(sidecar),
    )
    .await
    .unwrap();
    assert_settled(&apply(client, &objects(&control_plane)).await);

    // And also when the object is written for another reason.
    let mut other = control_plane.clone();
    other.core_dns.image_tag = Some("v1.14.7".to_owned());
    let applied = apply(client, &objects(&other)).await;
    // The tag is in kubeadm-config, too.
    assert_eq!(
        (applied.written, applied.in_place),
        (2, true),
        "{applied:?}"
    );
    let spec = deployments.get("coredns").await.unwrap().spec;
    assert_eq!(spec.replicas, Some(5));
    let image = spec.template.spec.unwrap().containers[0].image.clone();
    assert_eq!(
        image.as_deref(),
        Some("registry.k8s.io/coredns/coredns:v1.14.7")
    );
    let corefile = maps.get("coredns").await.unwrap().data.unwrap();
    assert_eq!(corefile["Corefile"], ".:53 {\n}\n");
    let spec = sets.get("kube-proxy").await.unwrap().spec;
    assert_eq!(spec.template.spec.unwrap().containers.len(), 2);
}

async fn a_change_of_the_spec_is_applied(client: &Client) {
    let mut control_plane = of_the_seed();
    assert!(apply(client, &objects(&control_plane)).await.in_place);
    let config = json!({"mode": "nftables"});
    control_plane.kube_proxy.config = serde_json::from_value(config).unwrap();
    let applied = apply(client, &objects(&control_plane)).await;
    assert_eq!(
        (applied.written, applied.in_place),
        (1, true),
        "{applied:?}"
    );
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get("kube-proxy").await.unwrap();
    assert!(map.data.unwrap()["config.conf"].contains("mode: nftables"));
    // Not generated any more: the mark that it is has to go.
    assert_eq!(map.metadata.annotations, None);
    assert_settled(&apply(client, &objects(&control_plane)).await);
}

async fn mark(client: &Client, control_plane: &ControlPlane) -> Applied {
    let seen = nodes(client, &names(control_plane)).await.unwrap();
    mark_nodes(client, &node_marks(control_plane), &seen).await
}

fn names(control_plane: &ControlPlane) -> Vec<NodeName> {
    let machines = control_plane.machines.iter();
    machines.map(|machine| machine.name.clone()).collect()
}

async fn first_node(client: &Client) -> NodeView {
    let names = names(&of_the_seed());
    nodes(client, &names).await.unwrap().remove(0)
}

fn taint_keys(node: &NodeView) -> Vec<&str> {
    let taints = node.taints.iter();
    taints.map(|taint| taint.key.as_str()).collect()
}

fn with_a_label() -> ControlPlane {
    let mut control_plane = of_the_seed();
    let label = ("rack".to_owned(), "a".to_owned());
    control_plane.machines[0].labels = BTreeMap::from([label]);
    control_plane
}

async fn nodes_are_marked(client: &Client) {
    let control_plane = with_a_label();
    let applied = mark(client, &control_plane).await;
    assert_eq!((applied.written, applied.in_place), (0, false));
    assert!(applied.problems.is_empty(), "no node yet is no problem");

    let api: Api<Node> = Api::all(client.clone());
    for name in names(&control_plane) {
        let node = json!({
            "metadata": {
                "name": name.as_str(),
                "labels": {"kubernetes.io/hostname": name.as_str()},
            },
            "spec": {"taints": [taint("node.kubernetes.io/not-ready", "NoSchedule")]},
        });
        let node: Node = serde_json::from_value(node).unwrap();
        api.create(&PostParams::default(), &node).await.unwrap();
    }
    let applied = mark(client, &control_plane).await;
    assert!(applied.in_place, "{applied:?}");
    let requests = writes(client).await;
    assert_settled(&mark(client, &control_plane).await);
    assert_eq!(writes(client).await, requests);

    let marked = first_node(client).await;
    let labels: Vec<&str> = marked.labels.keys().map(String::as_str).collect();
    assert_eq!(
        labels,
        [
            "kubernetes.io/hostname",
            CONTROL_PLANE,
            "node.kubernetes.io/exclude-from-external-load-balancers",
            "rack"
        ]
    );
    let keys = taint_keys(&marked);
    assert!(keys.contains(&CONTROL_PLANE), "{keys:?}");
    assert!(keys.contains(&"node.kubernetes.io/not-ready"), "{keys:?}");
}

async fn marks_follow_the_spec(client: &Client) {
    let mut control_plane = of_the_seed();
    control_plane.machines[0].taints.clear();
    let applied = mark(client, &control_plane).await;
    assert_eq!(
        (applied.written, applied.in_place),
        (2, true),
        "{applied:?}"
    );
    let node = first_node(client).await;
    assert!(!node.labels.contains_key("rack"));
    let keys = taint_keys(&node);
    assert!(!keys.contains(&CONTROL_PLANE), "{keys:?}");
    assert!(keys.contains(&"node.kubernetes.io/not-ready"), "{keys:?}");

    // A node that went in between is not made anew by marking it.
    let seen = nodes(client, &names(&control_plane)).await.unwrap();
    let api: Api<Node> = Api::all(client.clone());
    api.delete("cp-1", &DeleteParams::default()).await.unwrap();
    let mut marks = node_marks(&with_a_label());
    marks[0].taints.clear();
    let applied = mark_nodes(client, &marks, &seen).await;
    assert_eq!(applied.problems.len(), 1, "{applied:?}");
    assert_eq!(api.get_opt("cp-1").await.unwrap(), None);
}

#[tokio::test]
async fn a_target_that_does_not_answer_ends_the_pass() {
    // Takes connections and says nothing: the TLS handshake hangs.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let identity = seedbed_identity();
    let endpoint = HostPort {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    let client = connect(&endpoint, &identity.certificate_pem, &identity).unwrap();
    let applied = apply(&client, &objects(&control_plane())).await;
    assert_eq!((applied.written, applied.in_place), (0, false));
    assert_eq!(applied.problems.len(), 1, "{applied:?}");
    drop(listener);
    let Readiness::Unreachable(why) = readyz(&client).await else {
        panic!("nobody listens")
    };
    assert!(why.contains("refused"), "{why}");
}

fn assert_settled(applied: &Applied) {
    assert_eq!(
        (applied.written, applied.in_place),
        (0, true),
        "{applied:?}"
    );
}

/// A client made as the operator makes it, from the parts of the administrator's kubeconfig.
fn client_of(seed: &Seed) -> Client {
    let kubeconfig = Kubeconfig::read_from(seed.admin_kubeconfig()).unwrap();
    let user = kubeconfig.auth_infos[0].auth_info.clone().unwrap();
    let cluster = kubeconfig.clusters[0].cluster.clone().unwrap();
    let text = |data: &str| String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
    let identity = KeyPair {
        certificate_pem: text(&user.client_certificate_data.unwrap()),
        key_pem: text(user.client_key_data.unwrap().expose_secret()).into(),
    };
    let ca = text(&cluster.certificate_authority_data.unwrap());
    let server = cluster.server.unwrap();
    let (host, port) = server
        .trim_start_matches("https://")
        .rsplit_once(':')
        .unwrap();
    let endpoint = HostPort {
        host: host.to_owned(),
        port: port.parse().unwrap(),
    };
    connect(&endpoint, &ca, &identity).unwrap()
}

fn seedbed_identity() -> KeyPair {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    KeyPair {
        certificate_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem().into(),
    }
}

/// Somebody else changes an object.
async fn edit<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams {
        field_manager: Some("someone-else".to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .unwrap();
}

/// Server-side applies and patches that the API server has answered, by its own count.
async fn writes(client: &Client) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = client.request_text(request).await.unwrap();
    metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| line.contains("verb=\"APPLY\"") || line.contains("verb=\"PATCH\""))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64)
        .sum()
}

/// The revision of each of our objects that exists, by its name: that of its last write.
async fn versions(client: &Client) -> BTreeMap<String, u64> {
    let mut versions = BTreeMap::new();
    for object in objects(&of_the_seed()) {
        let request = http::Request::get(path(&object)).body(Vec::new()).unwrap();
        if let Ok(live) = client.request::<Value>(request).await {
            let version = live["metadata"]["resourceVersion"].as_str().unwrap();
            versions.insert(object.to_string(), version.parse().unwrap());
        }
    }
    versions
}

fn path(object: &Desired) -> String {
    let group = match object.object["apiVersion"].as_str().unwrap() {
        "v1" => "/api/v1".to_owned(),
        group => format!("/apis/{group}"),
    };
    let namespace = object
        .namespace()
        .map(|namespace| format!("/namespaces/{namespace}"))
        .unwrap_or_default();
    let kind = object.kind().to_lowercase();
    format!("{group}{namespace}/{kind}s/{}", object.name())
}
