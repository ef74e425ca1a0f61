//! A control plane of three machines with every default applied.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use seedbed::crd::{KeyAlgorithm, MachineConfigFormat};
use seedbed::domain::{
    ApiServer, CaKeyPlacement, Component, ControlPlane, CoreDns, Etcd, EtcdMembers, HostPort,
    KubeProxy, Kubelet, Machine, Profile,
};

const HOUR: u64 = 3600;

pub fn control_plane() -> ControlPlane {
    ControlPlane {
        name: "prod".to_owned(),
        namespace: "clusters".to_owned(),
        cluster_name: "prod".to_owned(),
        version: "v1.37.1".parse().unwrap(),
        endpoint: Some(HostPort {
            host: "api.prod.example.net".to_owned(),
            port: 6443,
        }),
        machines: (1..=3).map(machine).collect(),
        spares: Vec::new(),
        initial_machine: None,
        pod_cidrs: Vec::new(),
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
        leaf_validity: Duration::from_secs(8760 * HOUR),
        ca_validity: Duration::from_secs(87600 * HOUR),
        certificates_dir: "/etc/kubernetes/pki".to_owned(),
        ca_keys_on_nodes: CaKeyPlacement::ClusterCa,
        profile: Profile::Standard,
        image_repository: "registry.k8s.io".to_owned(),
        user_data_format: MachineConfigFormat::CloudConfig,
        files: Vec::new(),
        pre_commands: Vec::new(),
        post_commands: Vec::new(),
        os_preparation: false,
        size_budget_bytes: 786_432,
    }
}

pub fn taint(key: &str, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        ..Taint::default()
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
        taints: vec![taint("node-role.kubernetes.io/control-plane", "NoSchedule")],
        ca_directories: Vec::new(),
        resolv_conf: None,
        kubelet_extra_args: Vec::new(),
        kubelet_patches: Vec::new(),
        bind_port: 6443,
    }
}
