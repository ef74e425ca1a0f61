//! The cases: what is sent, and the words of the refusal. The words hold the field and the fix.

use serde_json::{Value, json};

/// One request.
pub struct Case {
    /// `cp`, `etcdc` or `np`.
    pub kind: &'static str,
    /// `create` and `apply` send a new object; `bare` and `full` change a stored one (defaults left
    /// out, or written out); `scale` writes the scale subresource of `full`.
    pub door: &'static str,
    pub what: &'static str,
    /// Values by dotted path as JSON, `null` to take a field away; for `scale` the number.
    pub changes: &'static str,
    /// Parts of the refusal, separated by ` & `; empty: accepted.
    pub words: &'static str,
}

const fn case(
    kind: &'static str,
    door: &'static str,
    what: &'static str,
    changes: &'static str,
    words: &'static str,
) -> Case {
    Case {
        kind,
        door,
        what,
        changes,
        words,
    }
}

/// An object that is accepted.
pub fn base(kind: &str, name: &str) -> Value {
    let machine = |number: u8| json!({"name": format!("m-{number}"), "address": format!("198.18.0.{}", 10 + number)});
    let machines: Vec<Value> = (1..=5).map(machine).collect();
    let (kind, mut spec, one_way) = match kind {
        "cp" => (
            "ControlPlane",
            json!({
                "version": "v1.37.1",
                "endpoint": {"host": "api.prod.example.net"},
                "replicas": 3,
                "machines": machines,
            }),
            json!({
                "clusterName": "prod",
                "network": {
                    "podCIDRs": ["10.244.0.0/16"],
                    "serviceCIDRs": ["10.97.0.0/16"],
                    "dnsDomain": "prod.local",
                },
                "etcd": {"dataDir": "/srv/etcd"},
                "certificates": {"keyAlgorithm": "RSA-2048", "directory": "/srv/pki"},
            }),
        ),
        "etcdc" => (
            "EtcdCluster",
            json!({"version": "3.7.0", "size": 3, "machines": machines}),
            json!({
                "dataDir": "/srv/etcd",
                "certificates": {"keyAlgorithm": "RSA-2048", "directory": "/srv/pki"},
            }),
        ),
        _ => (
            "NodePool",
            json!({
                "controlPlaneRef": {"name": "prod"},
                "machines": [{"name": "w-1"}, {"name": "w-2"}, {"name": "w-3"}],
            }),
            json!({"version": "v1.37.1", "replicas": 2, "token": {"ttl": "15m"}}),
        ),
    };
    if name == "full" {
        for (field, value) in one_way.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
    }
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

/// A status for each kind, as the operator writes it.
pub fn statuses() -> Vec<(&'static str, Value)> {
    let conditions = json!([{
        "type": "Ready", "status": "False", "reason": "MachinesStarting",
        "message": "m-3: nothing listens at 198.18.0.13:6443",
        "lastTransitionTime": "2026-11-22T07:00:00Z",
    }]);
    vec![
        (
            "cp",
            json!({
                "conditions": conditions,
                "version": "v1.37.1",
                "replicas": 3,
                "readyReplicas": 2,
                "readyMachines": "2/3",
                "etcdMembers": "2/3",
                "endpoint": "https://api.prod.example.net:6443",
                "certificates": {"earliestExpiry": "2027-11-22T07:00:00Z"},
            }),
        ),
        (
            "etcdc",
            json!({
                "conditions": conditions,
                "clusterID": "cdf818194e3a8c32",
                "replicas": 3,
                "readyReplicas": 2,
                "healthyMembers": "2/3",
            }),
        ),
        (
            "np",
            json!({
                "conditions": conditions,
                "replicas": 2,
                "joinedReplicas": 2,
                "readyReplicas": 1,
            }),
        ),
    ]
}

/// Every case.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    // What is accepted.
    case("cp", "create", "the least", "{}", ""),
    case("cp", "apply", "the least", "{}", ""),
    case("cp", "create", "one machine without endpoint", r#"{"spec.replicas": 1, "spec.machines": [{"name": "a", "address": "10.0.0.1"}], "spec.endpoint": null}"#, ""),
    case("cp", "create", "an IPv6 machine", r#"{"spec.machines.0.address": "2001:db8::1"}"#, ""),
    case("cp", "create", "dual stack", r#"{"spec.network": {"podCIDRs": ["10.244.0.0/16", "fd00:1::/56"], "serviceCIDRs": ["10.96.0.0/16", "fd00:2::/112"]}}"#, ""),
    case("cp", "create", "an endpoint address", r#"{"spec.endpoint.host": "198.18.0.10"}"#, ""),
    case("cp", "create", "repeated arguments and an empty value", r#"{"spec.apiServer": {"extraArgs": [{"name": "service-account-issuer", "value": "https://a"}, {"name": "service-account-issuer", "value": "https://b"}, {"name": "v", "value": ""}]}}"#, ""),
    case("cp", "create", "unknown fields of the kubelet", r#"{"spec.kubelet": {"config": {"someNewField": {"deep": [1]}}}}"#, ""),
    case("cp", "create", "no taints", r#"{"spec.taints": []}"#, ""),
    case("cp", "create", "external etcd", r#"{"spec.etcd": {"external": {"endpoints": ["https://10.0.0.5:2379"], "secretName": "etcd-client"}}}"#, ""),
    case("cp", "create", "capabilities of a later release", r#"{"spec.profile": "Hardened", "spec.patches": [{"target": "etcd", "patch": "{}"}]}"#, ""),
    case("cp", "create", "a field of the pod as variable", r#"{"spec.scheduler": {"extraEnvs": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}}"#, ""),
    case("cp", "bare", "nothing", "{}", ""),
    case("cp", "bare", "a later patch release", r#"{"spec.version": "v1.37.2"}"#, ""),
    case("cp", "bare", "another inventory", r#"{"spec.machines": [{"name": "m-1", "address": "198.18.0.11"}, {"name": "m-2", "address": "198.18.0.12"}, {"name": "m-6", "address": "198.18.0.16"}]}"#, ""),
    case("cp", "bare", "five replicas", r#"{"spec.replicas": 5}"#, ""),
    case("cp", "bare", "the endpoint's port", r#"{"spec.endpoint.port": 443}"#, ""),
    case("cp", "bare", "one-way fields written out as their defaults", r#"{"spec.clusterName": "bare", "spec.network": {"podCIDRs": [], "serviceCIDRs": ["10.96.0.0/12"], "dnsDomain": "cluster.local"}, "spec.etcd": {"dataDir": "/var/lib/etcd"}, "spec.certificates": {"keyAlgorithm": "ECDSA-P256", "directory": "/etc/kubernetes/pki"}}"#, ""),
    case("cp", "scale", "to one", "1", ""),
    case("cp", "scale", "to five", "5", ""),
    // Version.
    case("cp", "create", "no version", r#"{"spec.version": null}"#, "spec.version & Required"),
    case("cp", "create", "a minor", r#"{"spec.version": "v1.37"}"#, "spec.version & exact release & v1.37.1"),
    case("cp", "create", "without v", r#"{"spec.version": "1.37.1"}"#, "spec.version & exact release"),
    case("cp", "create", "a pre-release", r#"{"spec.version": "v1.37.1-rc.0"}"#, "spec.version & exact release"),
    case("cp", "create", "an old minor", r#"{"spec.version": "v1.30.2"}"#, "spec.version & v1.37.x"),
    case("cp", "create", "a channel", r#"{"spec.version": "stable-1"}"#, "spec.version & exact release"),
    case("cp", "full", "an earlier patch release", r#"{"spec.version": "v1.37.0"}"#, "spec.version & only go forward"),
    // Replicas.
    case("cp", "create", "even replicas", r#"{"spec.replicas": 2}"#, "spec.replicas & replicas must be 1, 3, 5 or 7"),
    case("cp", "apply", "even replicas", r#"{"spec.replicas": 4}"#, "spec.replicas & replicas must be 1, 3, 5 or 7"),
    case("cp", "full", "even replicas", r#"{"spec.replicas": 4}"#, "spec.replicas & replicas must be 1, 3, 5 or 7"),
    case("cp", "scale", "to four", "4", "spec.replicas & replicas must be 1, 3, 5 or 7"),
    case("cp", "scale", "to zero", "0", "spec.replicas & replicas must be 1, 3, 5 or 7"),
    case("cp", "scale", "above the inventory", "7", "spec.replicas & must not exceed the number of machines"),
    case("cp", "create", "above the inventory", r#"{"spec.replicas": 7}"#, "spec.replicas & must not exceed the number of machines"),
    case("cp", "create", "nine", r#"{"spec.replicas": 9}"#, "spec.replicas & 1, 3, 5 or 7"),
    // Names.
    case("cp", "create", "a name too long for labels", r#"{"metadata.name": "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg"}"#, "metadata.name & at most 63 characters"),
    case("cp", "create", "a machine name too long for a node", r#"{"spec.machines.0.name": "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg"}"#, "spec.machines[0].name & may not be more than 63"),
    case("cp", "create", "an upper-case machine name", r#"{"spec.machines.0.name": "CP-1"}"#, "spec.machines[0].name & DNS-1123 subdomain"),
    case("cp", "create", "a machine name of another Secret", r#"{"spec.machines.0.name": "kubeconfig"}"#, "spec.machines[0].name & choose another name"),
    case("cp", "create", "a machine name that ends as another Secret", r#"{"spec.machines.0.name": "m-2-certs"}"#, "spec.machines[0].name & choose another name"),
    case("cp", "create", "a machine twice", r#"{"spec.machines.0.name": "m-2"}"#, "spec.machines[1] & Duplicate value"),
    case("cp", "create", "a cluster name with an underscore", r#"{"spec.clusterName": "a_b"}"#, "spec.clusterName & DNS-1123 subdomain"),
    case("cp", "create", "a hostname with a space", r#"{"spec.machines.0.hostname": "a b"}"#, "spec.machines[0].hostname & host name"),
    case("cp", "create", "a failure domain that is no label", r#"{"spec.machines.0.failureDomain": "rack a"}"#, "failureDomain & label value"),
    // Addresses.
    case("cp", "create", "an address twice", r#"{"spec.machines.0.address": "198.18.0.12"}"#, "spec.machines & address must differ"),
    case("cp", "create", "an unspecified address", r#"{"spec.machines.0.address": "0.0.0.0"}"#, "spec.machines[0].address & not an unspecified"),
    case("cp", "create", "an unspecified IPv6 address", r#"{"spec.machines.0.address": "::"}"#, "spec.machines[0].address & not an unspecified"),
    case("cp", "create", "a loopback address", r#"{"spec.machines.0.address": "127.0.0.1"}"#, "spec.machines[0].address & loopback"),
    case("cp", "create", "a multicast address", r#"{"spec.machines.0.address": "239.0.0.1"}"#, "spec.machines[0].address & multicast"),
    case("cp", "create", "a link-local address", r#"{"spec.machines.0.address": "169.254.0.1"}"#, "spec.machines[0].address & link-local"),
    case("cp", "create", "a host name as address", r#"{"spec.machines.0.address": "m-1.example.net"}"#, "spec.machines[0].address & must be an IP address"),
    case("cp", "create", "an IPv6 address in long form", r#"{"spec.machines.0.address": "2001:0db8:0:0::1"}"#, "spec.machines[0].address & must be an IP address"),
    case("cp", "create", "a machine in the pod range", r#"{"spec.network": {"podCIDRs": ["198.18.0.0/16"]}}"#, "machines: address must lie outside"),
    case("cp", "create", "a machine in the default service range", r#"{"spec.machines.0.address": "10.100.0.1"}"#, "machines: address must lie outside"),
    case("cp", "create", "a port of etcd", r#"{"spec.machines.0.bindPort": 2379}"#, "spec.machines[0].bindPort & use 6443"),
    case("cp", "create", "a port out of range", r#"{"spec.machines.0.bindPort": 70000}"#, "spec.machines[0].bindPort & 65535"),
    // Endpoint.
    case("cp", "create", "no endpoint with several machines", r#"{"spec.endpoint": null}"#, "endpoint is required with more than one machine"),
    case("cp", "create", "an upper-case endpoint", r#"{"spec.endpoint.host": "API.example.net"}"#, "spec.endpoint.host & lower-case DNS name"),
    case("cp", "create", "an endpoint with port", r#"{"spec.endpoint.host": "api.example.net:6443"}"#, "spec.endpoint.host & without port"),
    case("cp", "create", "an endpoint that is a broken address", r#"{"spec.endpoint.host": "10.0.0.256"}"#, "spec.endpoint.host & IP address"),
    case("cp", "create", "a loopback endpoint", r#"{"spec.endpoint.host": "127.0.0.1"}"#, "spec.endpoint.host & that clients can reach"),
    // Ranges.
    case("cp", "create", "a range with host bits", r#"{"spec.network": {"podCIDRs": ["10.244.1.0/16"]}}"#, "spec.network.podCIDRs & host bits are zero"),
    case("cp", "create", "an address as range", r#"{"spec.network": {"serviceCIDRs": ["10.97.0.0"]}}"#, "spec.network.serviceCIDRs & for example"),
    case("cp", "create", "ranges that overlap", r#"{"spec.network": {"podCIDRs": ["10.96.0.0/16"], "serviceCIDRs": ["10.96.128.0/20"]}}"#, "spec.network & must not overlap"),
    case("cp", "create", "pods in the default service range", r#"{"spec.network": {"podCIDRs": ["10.100.0.0/16"]}}"#, "spec.network & must not overlap & 10.96.0.0/12"),
    case("cp", "create", "a pod range too small", r#"{"spec.network": {"podCIDRs": ["10.244.0.0/29"]}}"#, "spec.network.podCIDRs & /8 to /28"),
    case("cp", "create", "a service range too small", r#"{"spec.network": {"serviceCIDRs": ["10.97.0.0/29"]}}"#, "spec.network.serviceCIDRs & /12 to /28"),
    case("cp", "create", "a service range too large", r#"{"spec.network": {"serviceCIDRs": ["11.0.0.0/8"]}}"#, "spec.network.serviceCIDRs & /12 to /28"),
    case("cp", "create", "an IPv6 service range too large", r#"{"spec.network": {"serviceCIDRs": ["fd00::/64"]}}"#, "spec.network.serviceCIDRs & /108 to /124"),
    case("cp", "create", "two ranges of one family", r#"{"spec.network": {"podCIDRs": ["10.244.0.0/16", "10.245.0.0/16"]}}"#, "spec.network.podCIDRs & one of IPv4 and one of IPv6"),
    case("cp", "create", "two service ranges of one family", r#"{"spec.network": {"serviceCIDRs": ["fd00::/112", "fd01::/112"]}}"#, "spec.network.serviceCIDRs & one of IPv4 and one of IPv6"),
    case("cp", "create", "three ranges", r#"{"spec.network": {"podCIDRs": ["10.1.0.0/16", "10.2.0.0/16", "fd00::/56"]}}"#, "spec.network.podCIDRs & at most 2"),
    case("cp", "create", "no service range", r#"{"spec.network": {"serviceCIDRs": []}}"#, "spec.network.serviceCIDRs & leave the field out"),
    case("cp", "create", "an upper-case DNS domain", r#"{"spec.network": {"dnsDomain": "Cluster.local"}}"#, "spec.network.dnsDomain & DNS-1123 subdomain"),
    // etcd.
    case("cp", "create", "two kinds of etcd", r#"{"spec.etcd": {"clusterRef": {"name": "e"}, "external": {"endpoints": ["https://e:2379"]}}}"#, "spec.etcd & keep either"),
    case("cp", "create", "stacked fields beside a reference", r#"{"spec.etcd": {"clusterRef": {"name": "e"}, "dataDir": "/srv/etcd"}}"#, "spec.etcd & keep either"),
    case("cp", "create", "an endpoint without scheme", r#"{"spec.etcd": {"external": {"endpoints": ["10.0.0.5:2379"]}}}"#, "spec.etcd.external.endpoints & must be URLs"),
    case("cp", "create", "a client certificate without key", r#"{"spec.etcd": {"external": {"endpoints": ["https://e:2379"], "certFile": "/a"}}}"#, "spec.etcd.external & keyFile together"),
    case("cp", "create", "an impatient node loss", r#"{"spec.etcd": {"nodeLoss": {"timeout": "30s"}}}"#, "spec.etcd.nodeLoss.timeout & 1m to 24h"),
    case("cp", "create", "a relative data folder", r#"{"spec.etcd": {"dataDir": "var/etcd"}}"#, "spec.etcd.dataDir & absolute path"),
    case("cp", "create", "a wrong tag", r#"{"spec.etcd": {"imageTag": "3.7.0 "}}"#, "spec.etcd.imageTag & must be a tag"),
    // Components.
    case("cp", "create", "an argument with dashes", r#"{"spec.apiServer": {"extraArgs": [{"name": "--v", "value": "3"}]}}"#, "spec.apiServer.extraArgs[0].name & without leading dashes"),
    case("cp", "create", "an argument without name", r#"{"spec.apiServer": {"extraArgs": [{"name": "", "value": "3"}]}}"#, "spec.apiServer.extraArgs[0].name & without leading dashes"),
    case("cp", "create", "a SAN with a space", r#"{"spec.apiServer": {"certSANs": ["a b"]}}"#, "spec.apiServer.certSANs & DNS names"),
    case("cp", "create", "a volume twice", r#"{"spec.apiServer": {"extraVolumes": [{"name": "a", "hostPath": "/a", "mountPath": "/a"}, {"name": "a", "hostPath": "/b", "mountPath": "/b"}]}}"#, "extraVolumes[1] & Duplicate value"),
    case("cp", "create", "a mount path twice", r#"{"spec.apiServer": {"extraVolumes": [{"name": "a", "hostPath": "/a", "mountPath": "/a"}, {"name": "b", "hostPath": "/b", "mountPath": "/a"}]}}"#, "extraVolumes & mountPath must differ"),
    case("cp", "create", "a climbing path", r#"{"spec.scheduler": {"extraVolumes": [{"name": "a", "hostPath": "/a/../b", "mountPath": "/a"}]}}"#, "extraVolumes[0].hostPath & without '..'"),
    case("cp", "create", "a wrong effect", r#"{"spec.taints": [{"key": "a", "effect": "Never"}]}"#, "spec.taints[0].effect & supported values: \"NoSchedule\""),
    case("cp", "create", "an image repository with scheme", r#"{"spec.imageRepository": "https://registry.example.net"}"#, "spec.imageRepository & without scheme"),
    case("cp", "create", "a leaf validity of days", r#"{"spec.certificates": {"leafValidity": "365d"}}"#, "spec.certificates.leafValidity & such as 24h"),
    case("cp", "create", "an unknown key algorithm", r#"{"spec.certificates": {"keyAlgorithm": "Ed25519"}}"#, "spec.certificates.keyAlgorithm & \"ECDSA-P256\""),
    case("cp", "create", "a runtime socket without scheme", r#"{"spec.machines.0.criSocket": "/run/containerd/containerd.sock"}"#, "spec.machines[0].criSocket & unix:///"),
    case("cp", "create", "a file with two contents", r#"{"spec.machineConfig": {"files": [{"path": "/a", "content": "", "contentFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}"#, "spec.machineConfig.files[0] & keep one"),
    case("cp", "create", "a file from two sources", r#"{"spec.machineConfig": {"files": [{"path": "/a", "contentFrom": {"secretKeyRef": {"name": "s", "key": "k"}, "configMapKeyRef": {"name": "s", "key": "k"}}}]}}"#, "contentFrom & keep one"),
    case("cp", "create", "a file twice", r#"{"spec.machineConfig": {"files": [{"path": "/a", "content": ""}, {"path": "/a", "content": ""}]}}"#, "files[1] & Duplicate value"),
    case("cp", "create", "a mode in words", r#"{"spec.machineConfig": {"files": [{"path": "/a", "content": "", "permissions": "rw-"}]}}"#, "permissions & octal digits"),
    case("cp", "create", "an owner without group", r#"{"spec.machineConfig": {"files": [{"path": "/a", "content": "", "owner": "root"}]}}"#, "owner & user:group"),
    case("cp", "create", "a tiny size budget", r#"{"spec.machineConfig": {"sizeBudgetBytes": 100}}"#, "spec.machineConfig.sizeBudgetBytes & 4096"),
    // One-way fields: changed, added, removed.
    case("cp", "full", "cluster name changed", r#"{"spec.clusterName": "other"}"#, "spec.clusterName cannot be changed & create a new object"),
    case("cp", "full", "cluster name removed", r#"{"spec.clusterName": null}"#, "spec.clusterName cannot be changed"),
    case("cp", "bare", "cluster name added", r#"{"spec.clusterName": "other"}"#, "spec.clusterName cannot be changed"),
    case("cp", "full", "endpoint changed", r#"{"spec.endpoint.host": "other.example.net"}"#, "endpoint.host cannot be changed & restore the old value"),
    case("cp", "full", "endpoint removed", r#"{"spec.endpoint": null, "spec.machines": [{"name": "m-1", "address": "198.18.0.11"}], "spec.replicas": 1}"#, "endpoint.host cannot be changed"),
    case("cp", "full", "pod range changed", r#"{"spec.network.podCIDRs": ["10.245.0.0/16"]}"#, "network.podCIDRs cannot be changed"),
    case("cp", "full", "pod range removed", r#"{"spec.network.podCIDRs": null}"#, "network.podCIDRs cannot be changed"),
    case("cp", "bare", "pod range added", r#"{"spec.network": {"podCIDRs": ["10.245.0.0/16"]}}"#, "network.podCIDRs cannot be changed"),
    case("cp", "full", "service range changed", r#"{"spec.network.serviceCIDRs": ["10.98.0.0/16"]}"#, "network.serviceCIDRs cannot be changed"),
    case("cp", "full", "service range removed", r#"{"spec.network.serviceCIDRs": null}"#, "network.serviceCIDRs cannot be changed"),
    case("cp", "bare", "service range added", r#"{"spec.network": {"serviceCIDRs": ["10.98.0.0/16"]}}"#, "network.serviceCIDRs cannot be changed"),
    case("cp", "full", "DNS domain changed", r#"{"spec.network.dnsDomain": "other.local"}"#, "network.dnsDomain cannot be changed"),
    case("cp", "full", "network removed", r#"{"spec.network": null}"#, "network.podCIDRs cannot be changed & network.serviceCIDRs cannot be changed & network.dnsDomain cannot be changed"),
    case("cp", "full", "data folder changed", r#"{"spec.etcd.dataDir": "/srv/other"}"#, "etcd.dataDir cannot be changed"),
    case("cp", "full", "data folder removed", r#"{"spec.etcd": null}"#, "etcd.dataDir cannot be changed"),
    case("cp", "bare", "etcd made external", r#"{"spec.etcd": {"external": {"endpoints": ["https://e:2379"]}}}"#, "etcd.external cannot be added or removed"),
    case("cp", "bare", "etcd moved to a reference", r#"{"spec.etcd": {"clusterRef": {"name": "e"}}}"#, "etcd.clusterRef.name cannot be changed"),
    case("cp", "full", "key algorithm changed", r#"{"spec.certificates.keyAlgorithm": "ECDSA-P384"}"#, "certificates.keyAlgorithm cannot be changed"),
    case("cp", "full", "key algorithm removed", r#"{"spec.certificates": null}"#, "certificates.keyAlgorithm cannot be changed & certificates.directory cannot be changed"),
    case("cp", "bare", "key algorithm added", r#"{"spec.certificates": {"keyAlgorithm": "RSA-2048"}}"#, "certificates.keyAlgorithm cannot be changed"),
    case("cp", "full", "certificate folder changed", r#"{"spec.certificates.directory": "/srv/other"}"#, "certificates.directory cannot be changed"),
    // EtcdCluster.
    case("etcdc", "create", "the least", "{}", ""),
    case("etcdc", "scale", "to five", "5", ""),
    case("etcdc", "create", "an even size", r#"{"spec.size": 4}"#, "spec.size & size must be 1, 3, 5 or 7"),
    case("etcdc", "scale", "to two", "2", "spec.size & size must be 1, 3, 5 or 7"),
    case("etcdc", "scale", "above the inventory", "7", "spec.size & must not exceed the number of machines"),
    case("etcdc", "create", "a version with v", r#"{"spec.version": "v3.7.0"}"#, "spec.version & such as 3.7.0"),
    case("etcdc", "create", "an old version", r#"{"spec.version": "3.4.1"}"#, "spec.version & 3.5 or later"),
    case("etcdc", "create", "an address twice", r#"{"spec.machines.0.address": "198.18.0.12"}"#, "spec.machines & address must differ"),
    case("etcdc", "create", "a patch of another component", r#"{"spec.patches": [{"target": "kube-apiserver", "patch": "{}"}]}"#, "spec.patches & etcd or kubeletconfiguration"),
    case("etcdc", "full", "data folder changed", r#"{"spec.dataDir": "/srv/other"}"#, "dataDir cannot be changed"),
    case("etcdc", "bare", "data folder added", r#"{"spec.dataDir": "/srv/other"}"#, "dataDir cannot be changed"),
    case("etcdc", "full", "key algorithm changed", r#"{"spec.certificates.keyAlgorithm": "RSA-4096"}"#, "certificates.keyAlgorithm cannot be changed"),
    case("etcdc", "full", "certificate folder removed", r#"{"spec.certificates.directory": null}"#, "certificates.directory cannot be changed"),
    // NodePool.
    case("np", "create", "the least", "{}", ""),
    case("np", "create", "an open pool", r#"{"spec.machines": null, "spec.maxNodes": 100}"#, ""),
    case("np", "scale", "to zero", "0", ""),
    case("np", "scale", "to three", "3", ""),
    case("np", "scale", "above the machines", "4", "spec.replicas & add machines"),
    case("np", "create", "both kinds of pool", r#"{"spec.maxNodes": 100}"#, "machines (a listed pool) or maxNodes"),
    case("np", "create", "neither kind of pool", r#"{"spec.machines": null}"#, "machines (a listed pool) or maxNodes"),
    case("np", "create", "replicas of an open pool", r#"{"spec.machines": null, "spec.maxNodes": 9, "spec.replicas": 1}"#, "spec.replicas & an open pool has none"),
    case("np", "create", "a token for two days", r#"{"spec.token": {"ttl": "48h"}}"#, "spec.token.ttl & 1m to 24h"),
    case("np", "create", "a token for a moment", r#"{"spec.token": {"ttl": "30s"}}"#, "spec.token.ttl & 1m to 24h"),
    case("np", "create", "a reference into another namespace", r#"{"spec.controlPlaneRef.name": "other/prod"}"#, "spec.controlPlaneRef.name & in the same namespace"),
    case("np", "full", "another control plane", r#"{"spec.controlPlaneRef.name": "other"}"#, "spec.controlPlaneRef & cannot be changed"),
    case("np", "create", "a machine twice", r#"{"spec.machines.0.name": "w-2"}"#, "spec.machines[1] & Duplicate value"),
    case("np", "create", "an older kubelet", r#"{"spec.version": "v1.34.4"}"#, ""),
    case("np", "create", "a kubelet too old", r#"{"spec.version": "v1.33.9"}"#, "spec.version & v1.34.x, v1.35.x, v1.36.x, v1.37.x"),
    case("np", "create", "a patch of the API server", r#"{"spec.patches": [{"target": "kube-apiserver", "patch": "{}"}]}"#, "spec.patches & must be kubeletconfiguration"),
];
