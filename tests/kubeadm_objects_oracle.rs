//! The objects of the target against those of the real `kubeadm init --dry-run`, for one control
//! plane after another. Configurations inside ConfigMaps are compared as values, and their hash has
//! to be that of the text beside it.
//!
//! Differences that are meant:
//! - ClusterRoleBinding `kubeadm:cluster-admins`: kubeadm makes it in its kubeconfig phase, which a
//!   dry run does not print.
//! - Secret `bootstrap-token-…`: tokens are made for node pools, when there are any.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/control_plane.rs"]
mod fixture;
#[path = "support/kubeadm.rs"]
#[allow(dead_code, reason = "files are compared elsewhere")]
mod kubeadm;
#[path = "support/kubeadm_config.rs"]
mod kubeadm_config;
#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use fixture::{control_plane, taint};
use k8s_openapi::api::core::v1::{EnvVar, Taint};
use seedbed::crd::{Arg, HostPathMount, HostPathType, KeyAlgorithm};
use seedbed::domain::{
    ClientFiles, ControlPlane, Etcd, EtcdCredentials, EtcdMembers, ExternalEtcd, HostPort,
};
use seedbed::target::{desired_objects, node_marks};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const NOT_PRINTED: &[&str] = &["ClusterRoleBinding kubeadm:cluster-admins"];
const NOT_OURS: &str = "Secret kube-system/bootstrap-token-";

#[test]
fn defaults() {
    compare(|_| {});
}

#[test]
fn one_machine_without_an_endpoint_and_another_port() {
    compare(|cp| {
        cp.endpoint = None;
        cp.machines.truncate(1);
        cp.machines[0].bind_port = 7443;
        cp.machines[0].taints.clear();
        cp.key_algorithm = KeyAlgorithm::Rsa2048;
        cp.leaf_validity = std::time::Duration::from_secs(1500 * 3600);
        cp.ca_validity = std::time::Duration::from_secs(40000 * 3600 + 30 * 60 + 5);
    });
}

#[test]
fn networks() {
    compare(|cp| {
        endpoint(cp, "198.18.0.100", 6443);
        cp.pod_cidrs = vec!["198.18.64.0/18".parse().unwrap()];
        cp.service_cidrs = vec!["198.19.0.0/16".parse().unwrap()];
        cp.dns_domain = "corp.example".to_owned();
        for machine in &mut cp.machines {
            let mut own = taint("example.net/role", "NoExecute");
            own.value = Some("cp".to_owned());
            machine.taints = vec![own];
        }
    });
}

#[test]
fn dual_stack() {
    compare(|cp| {
        endpoint(cp, "api.prod.example.net", 443);
        cp.pod_cidrs = vec![
            "10.244.0.0/16".parse().unwrap(),
            "fd00:10:244::/56".parse().unwrap(),
        ];
        cp.service_cidrs = vec![
            "10.96.0.0/16".parse().unwrap(),
            "fd00:10:96::/112".parse().unwrap(),
        ];
    });
}

#[test]
fn kubelet_configuration() {
    compare(|cp| {
        cp.certificates_dir = "/etc/kubernetes/keys".to_owned();
        cp.kubelet.config = fields(json!({
            "cgroupDriver": "cgroupfs",
            "failSwapOn": false,
            "failCgroupV1": false,
            "logging": {"verbosity": 4},
            "maxPods": 55,
            "evictionHard": {"memory.available": "100Mi"},
            "authentication": {"anonymous": {"enabled": true}},
        }));
    });
}

#[test]
fn kube_proxy_configuration() {
    compare(|cp| {
        cp.pod_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
        cp.kube_proxy.config = fields(json!({
            "mode": "nftables",
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "24h0m0s"},
            "nodePortAddresses": ["primary"],
            "featureGates": {"AllAlpha": false},
            "clusterCIDR": "10.244.0.0/17",
            "iptables": {"masqueradeBit": null, "syncPeriod": "30s"},
            "oomScoreAdj": -998,
        }));
    });
}

#[test]
fn images_of_ones_own() {
    compare(|cp| {
        cp.image_repository = "registry.example.net:5000/mirror".to_owned();
        cp.core_dns.image_repository = Some("registry.k8s.io".to_owned());
        cp.core_dns.image_tag = Some("v1.14.2".to_owned());
        members(cp).image = "registry.example.net/etcds/etcd:3.6.9-0".to_owned();
    });
}

#[test]
fn one_image_repository_for_everything() {
    compare(|cp| {
        cp.image_repository = "registry.example.net/mirror".to_owned();
        members(cp).image = "registry.example.net/mirror/etcd:3.7.0-0".to_owned();
    });
}

#[test]
fn additions_to_components() {
    compare(components);
}

#[test]
fn external_etcd() {
    compare(|cp| cp.etcd = Etcd::External(external("http://198.18.0.41:2379")));
    compare(|cp| {
        let mut etcd = external("https://198.18.0.41:2379");
        etcd.ca_file = Some("/etc/kubernetes/pki/etcd/ca.crt".to_owned());
        etcd.client = Some(ClientFiles {
            certificate: "/etc/kubernetes/pki/apiserver-etcd-client.crt".to_owned(),
            key: "/etc/kubernetes/pki/apiserver-etcd-client.key".to_owned(),
        });
        cp.etcd = Etcd::External(etcd);
    });
}

fn external(endpoint: &str) -> ExternalEtcd {
    ExternalEtcd {
        endpoints: vec![endpoint.to_owned(), endpoint.replace("41", "42")],
        ca_file: None,
        client: None,
        credentials: EtcdCredentials::Given(Vec::new()),
    }
}

/// The settings of stacked members.
fn members(cp: &mut ControlPlane) -> &mut EtcdMembers {
    match &mut cp.etcd {
        Etcd::Stacked(members) => members,
        Etcd::External(_) => panic!("its etcd is elsewhere"),
    }
}

#[test]
fn without_addons() {
    compare(|cp| {
        cp.core_dns.disabled = true;
        cp.kube_proxy.disabled = true;
    });
}

fn components(cp: &mut ControlPlane) {
    let arg = |name: &str, value: &str| Arg {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let env = |value: Value| serde_json::from_value::<EnvVar>(value).unwrap();
    let volume = |name: &str, path: &str, path_type, read_only| HostPathMount {
        name: name.to_owned(),
        host_path: path.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        path_type,
    };
    cp.api_server.cert_sans = vec!["Foo.example.net".into(), "198.18.0.9".into()];
    cp.api_server.component.extra_args = vec![
        arg("service-account-issuer", "https://a.example"),
        arg("service-account-issuer", "https://b.example"),
        arg("v", ""),
    ];
    cp.api_server.component.extra_envs = vec![
        env(json!({"name": "A", "value": "1"})),
        env(json!({"name": "E", "value": ""})),
        env(json!({"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})),
        env(json!({"name": "A", "value": "yes"})),
    ];
    cp.api_server.component.extra_volumes = vec![
        volume(
            "audit",
            "/var/log/audit",
            Some(HostPathType::DirectoryOrCreate),
            None,
        ),
        volume("policy", "/etc/policy", None, Some(true)),
    ];
    cp.controller_manager.extra_args = vec![arg("v", "3")];
    cp.scheduler.extra_envs = vec![env(json!({"name": "GOMAXPROCS", "value": "2"}))];
    let etcd = members(cp);
    etcd.data_dir = "/data/etcd".to_owned();
    etcd.extra_args = vec![arg("quota-backend-bytes", "8589934592")];
    etcd.extra_envs = vec![env(json!({"name": "GOGC", "value": "off"}))];
    etcd.server_cert_sans = vec!["s.example.net".to_owned()];
    etcd.peer_cert_sans = vec!["p.example.net".to_owned()];
}

fn endpoint(cp: &mut ControlPlane, host: &str, port: u16) {
    cp.endpoint = Some(HostPort {
        host: host.to_owned(),
        port,
    });
}

fn fields(object: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(object).unwrap()
}

fn compare(change: fn(&mut ControlPlane)) {
    let mut control_plane = control_plane();
    change(&mut control_plane);
    let dry_run = DryRun::run(&control_plane).unwrap();
    let kubeadm = dry_run.objects().unwrap();
    let ours: BTreeMap<String, Value> = desired_objects(&control_plane, &dry_run.ca)
        .unwrap()
        .into_iter()
        .map(|desired| (desired.to_string(), normal(desired.object)))
        .collect();
    let mut differences = Vec::new();
    for (name, theirs) in &kubeadm {
        match ours.get(name) {
            _ if name.starts_with(NOT_OURS) => {}
            None => differences.push(format!("{name}: missing")),
            Some(ours) if ours != theirs => differences.push(format!(
                "{name}:\n{}",
                assert_json_diff::assert_json_matches_no_panic(
                    ours,
                    theirs,
                    assert_json_diff::Config::new(assert_json_diff::CompareMode::Strict),
                )
                .unwrap_err()
            )),
            Some(_) => {}
        }
    }
    for name in ours.keys() {
        if !kubeadm.contains_key(name) && !NOT_PRINTED.contains(&name.as_str()) {
            differences.push(format!("{name}: not in kubeadm"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n\n")
    );
    // Guards against a dry run whose output changed its form.
    let addons = !control_plane.core_dns.disabled;
    let expected = if addons { 28 } else { 16 };
    assert_eq!(kubeadm.len(), expected, "objects of the dry run");
    assert_eq!(dry_run.marks(), our_marks(&control_plane));
}

/// Labels and taints of the first node, as kubeadm prints them.
fn our_marks(control_plane: &ControlPlane) -> (Vec<String>, Vec<String>) {
    let marks = node_marks(control_plane).remove(0);
    let taint = |taint: &Taint| match &taint.value {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    };
    (
        marks.labels.into_keys().collect(),
        marks.taints.iter().map(taint).collect(),
    )
}

struct DryRun {
    output: String,
    /// The CA that kubeadm made.
    ca: String,
}

impl DryRun {
    fn run(control_plane: &ControlPlane) -> Result<Self> {
        let program = testbed::build::program(testbed::Component::Kubernetes, "kubeadm")?;
        let config = kubeadm_config::kubeadm_config(control_plane, &control_plane.machines[0]);
        let folder = &control_plane.certificates_dir;
        let mut run = kubeadm::dry_run(&program, &config, folder, &BTreeMap::new())?;
        let ca = run.files.remove(&format!("{folder}/ca.crt"));
        Ok(Self {
            output: run.output,
            ca: String::from_utf8(ca.context("kubeadm made no CA")?.content)?,
        })
    }

    /// Every object that kubeadm would create.
    fn objects(&self) -> Result<BTreeMap<String, Value>> {
        let mut objects = BTreeMap::new();
        for action in self.output.split("[dryrun] Would perform action ").skip(1) {
            if !action.starts_with("CREATE ") {
                continue;
            }
            let (_, object) = action
                .split_once("Attached object:\n")
                .context("a created object is not printed")?;
            let yaml = object.split("\n\n").next().unwrap_or_default();
            let object: Value = serde_saphyr::from_str(yaml).with_context(|| yaml.to_owned())?;
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
            let (kind, name) = (text("/kind"), text("/metadata/name"));
            let (kind, name) = kind.zip(name).context("an object without a name")?;
            let name = match text("/metadata/namespace") {
                Some(namespace) => format!("{kind} {namespace}/{name}"),
                None => format!("{kind} {name}"),
            };
            objects.insert(name, normal(object.clone()));
        }
        Ok(objects)
    }

    /// Labels and taints of the `[mark-control-plane]` lines.
    fn marks(&self) -> (Vec<String>, Vec<String>) {
        let list = |what: &str| -> Vec<String> {
            self.output
                .lines()
                .filter(|line| line.starts_with("[mark-control-plane]"))
                .find_map(|line| line.split_once(what))
                .map(|(_, list)| list.trim_matches(['[', ']']).split(' '))
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect()
        };
        (
            list("by adding the labels: "),
            list("by adding the taints "),
        )
    }
}

/// Without status, and without what Go writes for empty fields; configurations parsed.
fn normal(mut object: Value) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(prune);
                fields.retain(|_, field| match field {
                    Value::Null => false,
                    Value::Object(fields) => !fields.is_empty(),
                    Value::Array(elements) => !elements.is_empty(),
                    _ => true,
                });
            }
            Value::Array(elements) => elements.iter_mut().for_each(prune),
            _ => {}
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        // The dry run prints "0" for the DNS Service.
        metadata.remove("resourceVersion");
    }
    prune(&mut object);
    if object["kind"] == "ConfigMap" {
        check_hash(&mut object);
        for (key, value) in object["data"].as_object_mut().unwrap() {
            if key != "Corefile" {
                *value = serde_saphyr::from_str(value.as_str().unwrap()).unwrap();
            }
        }
    }
    object
}

/// The hash is over the text, whose quotes differ: it has to be right on either side.
fn check_hash(config_map: &mut Value) {
    let mut hash = Sha256::new();
    for value in config_map["data"].as_object().unwrap().values() {
        hash.update(value.as_str().unwrap());
    }
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let pointer = "/metadata/annotations/kubeadm.kubernetes.io~1component-config.hash";
    if let Some(annotation) = config_map.pointer_mut(pointer) {
        assert_eq!(*annotation, format!("sha256:{hex}"));
        *annotation = json!("is right");
    }
}
