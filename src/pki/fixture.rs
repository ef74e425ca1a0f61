//! A control plane for this room's tests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::crd::KeyAlgorithm;
use crate::domain::{
    ApiServer, CaKeyPlacement, Component, ControlPlane, CoreDns, Etcd, EtcdMembers, HostPort,
    KubeProxy, Kubelet, Machine, Profile,
};

pub(crate) fn control_plane(machines: u8) -> ControlPlane {
    ControlPlane {
        name: "prod".to_owned(),
        namespace: "clusters".to_owned(),
        cluster_name: "prod".to_owned(),
        version: "v1.37.1".parse().unwrap(),
        endpoint: Some(HostPort {
            host: "api.prod.example.net".to_owned(),
            port: 6443,
        }),
        machines: (1..=machines).map(machine).collect(),
        spares: Vec::new(),
        initial_machine: None,
        pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        dns_domain: "cluster.local".to_owned(),
        etcd: Etcd::Stacked(EtcdMembers {
            data_dir: "/var/lib/etcd".to_owned(),
            image: "registry.k8s.io/etcd:3.7.0-0".to_owned(),
            extra_args: Vec::new(),
            extra_envs: Vec::new(),
            server_cert_sans: Vec::new(),
            peer_cert_sans: Vec::new(),
        }),
        api_server: ApiServer::default(),
        controller_manager: Component::default(),
        scheduler: Component::default(),
        kubelet: Kubelet::default(),
        kube_proxy: KubeProxy::default(),
        core_dns: CoreDns::default(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        leaf_validity: Duration::from_secs(8760 * 3600),
        ca_validity: Duration::from_secs(87600 * 3600),
        certificates_dir: "/etc/kubernetes/pki".to_owned(),
        ca_keys_on_nodes: CaKeyPlacement::ClusterCa,
        profile: Profile::Standard,
        image_repository: "registry.k8s.io".to_owned(),
        user_data_format: crate::crd::MachineConfigFormat::CloudConfig,
        files: Vec::new(),
        pre_commands: Vec::new(),
        post_commands: Vec::new(),
        os_preparation: true,
        size_budget_bytes: 1 << 20,
    }
}

fn machine(n: u8) -> Machine {
    Machine {
        name: format!("cp-{n}").parse().unwrap(),
        address: [198, 18, 0, 10 + n].into(),
        failure_domain: None,
        hostname: None,
        cri_socket: "unix:///run/containerd/containerd.sock".to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        ca_directories: Vec::new(),
        resolv_conf: None,
        kubelet_extra_args: Vec::new(),
        kubelet_patches: Vec::new(),
        bind_port: 6443,
    }
}
