//! Arbitrary specs: values that are right most of the time, so that whole specs resolve now and
//! then, mixed with arbitrary text.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::crd;

fn text(good: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop_oneof![
        20 => select(good).prop_map(|text| json!(text)),
        1 => any::<String>().prop_map(|text| json!(text)),
        1 => "[a-z0-9/:.\\-]{0,70}".prop_map(|text| json!(text)),
    ]
    .boxed()
}

fn texts(good: &'static [&'static str]) -> BoxedStrategy<Value> {
    proptest::collection::vec(text(good), 0..3)
        .prop_map(Value::from)
        .boxed()
}

fn number(good: &'static [i32]) -> BoxedStrategy<Value> {
    prop_oneof![20 => select(good).prop_map(|n| json!(n)), 1 => any::<i32>().prop_map(|n| json!(n))]
        .boxed()
}

/// An object with some of the fields.
fn object_of(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let optional: Vec<_> = values
        .into_iter()
        .map(|value| proptest::option::weighted(0.3, value))
        .collect();
    optional
        .prop_map(move |values| {
            let pairs = names.iter().zip(values);
            let some = pairs.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(some.collect::<Map<_, _>>())
        })
        .boxed()
}

fn component() -> BoxedStrategy<Value> {
    let arg = (
        text(&["v", "audit-log-path", "node-cidr-mask-size"]),
        text(&["3", "", "26"]),
    )
        .prop_map(|(name, value)| json!({"name": name, "value": value}));
    let env = (text(&["A", "HTTPS_PROXY"]), text(&["1", ""]))
        .prop_map(|(name, value)| json!({"name": name, "value": value}));
    let volume = (text(&["a", "b"]), text(&["/srv/a"]), text(&["/a", "/b"])).prop_map(
        |(name, host, mount)| json!({"name": name, "hostPath": host, "mountPath": mount}),
    );
    let list = |item: BoxedStrategy<Value>| {
        proptest::collection::vec(item, 0..3)
            .prop_map(Value::from)
            .boxed()
    };
    object_of(vec![
        ("extraArgs", list(arg.boxed())),
        ("extraEnvs", list(env.boxed())),
        ("extraVolumes", list(volume.boxed())),
    ])
}

fn machine(index: usize) -> BoxedStrategy<Value> {
    let optional = object_of(vec![
        ("failureDomain", text(&["a", "b", "c"])),
        ("hostname", text(&["host-1"])),
        ("criSocket", text(&["unix:///run/crio/crio.sock"])),
        ("resolvConf", text(&["/run/systemd/resolve/resolv.conf"])),
        ("caDirectories", texts(&["/etc/ssl/certs"])),
        ("bindPort", number(&[6443, 8443])),
    ]);
    let odd = proptest::option::weighted(0.02, (text(&["cp-0", "ca"]), text(&["198.18.0.1"])));
    (optional, odd)
        .prop_map(move |(mut machine, odd)| {
            let (name, address) = odd.unwrap_or_else(|| {
                (
                    json!(format!("cp-{index}")),
                    json!(format!("198.18.0.{}", index + 1)),
                )
            });
            machine["name"] = name;
            machine["address"] = address;
            machine
        })
        .boxed()
}

/// A whole ControlPlane.
pub fn object() -> impl Strategy<Value = crd::ControlPlane> {
    let machines = (0_usize..9)
        .prop_flat_map(|count| (0..count).map(machine).collect::<Vec<_>>())
        .prop_map(Value::from);
    let endpoint = (text(&["api.example.net", "198.18.0.10"]), number(&[6443]))
        .prop_map(|(host, port)| json!({"host": host, "port": port}));
    let optional = object_of(vec![
        ("clusterName", text(&["prod"])),
        (
            "network",
            object_of(vec![
                ("podCIDRs", texts(&["198.18.64.0/18", "10.244.0.0/16"])),
                ("serviceCIDRs", texts(&["198.19.0.0/16", "10.96.0.0/12"])),
                ("dnsDomain", text(&["cluster.local"])),
            ]),
        ),
        (
            "etcd",
            object_of(vec![
                ("dataDir", text(&["/var/lib/etcd"])),
                ("imageTag", text(&["3.7.0-0"])),
                ("serverCertSANs", texts(&["a.example.net", "10.0.0.1"])),
                (
                    "nodeLoss",
                    object_of(vec![("timeout", text(&["5m", "1h"]))]),
                ),
            ]),
        ),
        ("apiServer", component()),
        ("controllerManager", component()),
        ("scheduler", component()),
        (
            "certificates",
            object_of(vec![
                ("leafValidity", text(&["8760h"])),
                ("caValidity", text(&["87600h"])),
                ("directory", text(&["/etc/kubernetes/pki", "/srv/pki/"])),
            ]),
        ),
        (
            "profile",
            select(&["Kubeadm", "Standard", "Hardened"][..])
                .prop_map(|p| json!(p))
                .boxed(),
        ),
        ("imageRepository", text(&["registry.k8s.io"])),
    ]);
    (
        text(&["prod"]),
        text(&["v1.37.1", "v1.37.0"]),
        number(&[1, 3, 5, 7]),
        machines,
        proptest::option::weighted(0.9, endpoint),
        optional,
    )
        .prop_map(|(name, version, replicas, machines, endpoint, mut spec)| {
            spec["version"] = version;
            spec["replicas"] = replicas;
            spec["machines"] = machines;
            if let Some(endpoint) = endpoint {
                spec["endpoint"] = endpoint;
            }
            let object = json!({
                "apiVersion": "seedbed.dev/v1alpha1",
                "kind": "ControlPlane",
                "metadata": {"name": name, "namespace": "clusters"},
                "spec": spec,
            });
            serde_json::from_value(object).expect("the generator follows the types")
        })
}
