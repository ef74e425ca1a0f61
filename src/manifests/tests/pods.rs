use k8s_openapi::api::core::v1::EnvVar;
use serde_json::json;

use super::*;
use crate::crd::{HostPathMount, HostPathType};
use crate::domain::{ClientFiles, EtcdCredentials, ExternalEtcd};

fn flag_values(command: &[String], name: &str) -> Vec<String> {
    let prefix = format!("--{name}=");
    command
        .iter()
        .filter_map(|flag| flag.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

fn etcd_pod(
    control_plane: &ControlPlane,
    machine: &Machine,
    founding: &Founding,
) -> Result<k8s_openapi::api::core::v1::Pod, ManifestError> {
    let members = control_plane.etcd.stacked().unwrap();
    etcd::pod(members, &control_plane.certificates_dir, machine, founding)
}

fn env(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

#[test]
fn overrides_drop_defaults_and_follow_in_their_order() {
    let mut control_plane = control_plane(1);
    control_plane.scheduler.extra_args = vec![
        arg("v", "2"),
        arg("leader-elect", "false"),
        arg("a", ""),
        arg("leader-elect", "true"),
    ];
    assert_eq!(
        command(&control_plane, "kube-scheduler"),
        [
            "kube-scheduler",
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--bind-address=127.0.0.1",
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--v=2",
            "--leader-elect=false",
            "--a=",
            "--leader-elect=true",
        ]
    );
}

#[test]
fn authorization_config_takes_the_place_of_the_mode() {
    let mut control_plane = control_plane(1);
    let modes = |control_plane: &ControlPlane| {
        flag_values(
            &command(control_plane, "kube-apiserver"),
            "authorization-mode",
        )
    };
    assert_eq!(modes(&control_plane), ["Node,RBAC"]);
    control_plane.api_server.component.extra_args = vec![arg("authorization-config", "/x")];
    assert!(modes(&control_plane).is_empty());
    let args = &mut control_plane.api_server.component.extra_args;
    args.push(arg("authorization-mode", "RBAC"));
    assert_eq!(modes(&control_plane), ["RBAC"]);
}

#[test]
fn pod_ranges_bring_node_ranges() {
    let mut control_plane = control_plane(1);
    let line = command(&control_plane, "kube-controller-manager");
    assert_eq!(flag_values(&line, "allocate-node-cidrs"), ["true"]);
    assert_eq!(flag_values(&line, "cluster-cidr"), ["10.244.0.0/16"]);
    assert_eq!(
        flag_values(&line, "service-cluster-ip-range"),
        ["10.96.0.0/12"]
    );
    control_plane.pod_cidrs.clear();
    let line = command(&control_plane, "kube-controller-manager");
    for name in [
        "allocate-node-cidrs",
        "cluster-cidr",
        "service-cluster-ip-range",
    ] {
        assert!(flag_values(&line, name).is_empty(), "{name}");
    }
}

#[test]
fn etcd_lists_every_founder_and_keeps_the_reconfiguration_check() {
    let control_plane = control_plane(3);
    let line = command(&control_plane, "etcd");
    assert_eq!(
        flag_values(&line, "initial-cluster"),
        [
            "cp-1=https://198.18.0.11:2380,cp-2=https://198.18.0.12:2380,cp-3=https://198.18.0.13:2380"
        ]
    );
    assert_eq!(flag_values(&line, "initial-cluster-state"), ["new"]);
    assert_eq!(flag_values(&line, "initial-cluster-token"), ["token"]);
    assert!(flag_values(&line, "strict-reconfig-check").is_empty());
}

#[test]
fn etcd_state_follows_the_ledger() {
    let control_plane = control_plane(3);
    let mut founding = founding(&control_plane);
    founding.state = InitialClusterState::Existing;
    let pod = etcd_pod(&control_plane, &control_plane.machines[0], &founding).unwrap();
    let line = pod.spec.unwrap().containers.remove(0).command.unwrap();
    assert_eq!(flag_values(&line, "initial-cluster-state"), ["existing"]);
}

#[test]
fn etcd_needs_its_machine_among_the_members() {
    let control_plane = control_plane(3);
    let machine = &control_plane.machines[1];
    let mut founding = founding(&control_plane);
    founding.members[1].peer_url = "https://198.18.0.99:2380".to_owned();
    let error = etcd_pod(&control_plane, machine, &founding).unwrap_err();
    assert!(
        matches!(error, ManifestError::PeerUrlChanged { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("198.18.0.99"), "{error}");
    founding.members.remove(1);
    let error = etcd_pod(&control_plane, machine, &founding).unwrap_err();
    assert!(matches!(error, ManifestError::NotAMember { .. }), "{error}");
}

#[test]
fn etcd_probes_follow_the_first_metrics_url() {
    let mut control_plane = control_plane(1);
    let probe = |control_plane: &ControlPlane| {
        let pod = pod(control_plane, "etcd");
        let container = &pod["spec"]["containers"][0];
        let get = &container["livenessProbe"]["httpGet"];
        let port = container["ports"][0]["containerPort"].as_i64().unwrap();
        let text = |name: &str| get[name].as_str().unwrap().to_owned();
        (text("host"), port, text("scheme"))
    };
    let cases = [
        (
            "http://0.0.0.0:2399,http://127.0.0.1:2381",
            ("0.0.0.0", 2399, "HTTP"),
        ),
        ("https://[::1]:2399", ("::1", 2399, "HTTPS")),
        (
            "https://metrics.example.net",
            ("metrics.example.net", 2381, "HTTPS"),
        ),
        ("localhost:2399", ("127.0.0.1", 2381, "HTTP")),
        ("not a url", ("127.0.0.1", 2381, "HTTP")),
        ("", ("127.0.0.1", 2381, "HTTP")),
    ];
    for (value, (host, port, scheme)) in cases {
        members(&mut control_plane).extra_args = vec![
            arg("listen-metrics-urls", "http://first:1"),
            arg("listen-metrics-urls", value),
        ];
        assert_eq!(
            probe(&control_plane),
            (host.to_owned(), port, scheme.to_owned()),
            "{value}"
        );
    }
}

#[test]
fn probes_leave_out_an_unspecified_host() {
    let mut control_plane = control_plane(1);
    let host = |control_plane: &ControlPlane| {
        let pod = pod(control_plane, "kube-controller-manager");
        pod["spec"]["containers"][0]["startupProbe"]["httpGet"]
            .get("host")
            .cloned()
    };
    assert_eq!(host(&control_plane), Some(json!("127.0.0.1")));
    for (value, expected) in [
        ("0.0.0.0", None),
        ("::", None),
        ("198.18.0.11", Some(json!("198.18.0.11"))),
    ] {
        control_plane.controller_manager.extra_args =
            vec![arg("bind-address", "10.0.0.1"), arg("bind-address", value)];
        assert_eq!(host(&control_plane), expected, "{value}");
    }
}

#[test]
fn environment_is_sorted_and_the_last_of_a_name_wins() {
    let merged = merge_envs(&[env("Z", "1"), env("A", ""), env("Z", "2"), env("B", "x")]);
    let texts: Vec<(&str, Option<&str>)> = merged
        .iter()
        .map(|e| (e.name.as_str(), e.value.as_deref()))
        .collect();
    assert_eq!(texts, [("A", None), ("B", Some("x")), ("Z", Some("2"))]);
    let field: EnvVar = serde_json::from_value(json!({
        "name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}
    }))
    .unwrap();
    let merged = serde_json::to_value(merge_envs(&[field])).unwrap();
    assert_eq!(merged[0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert!(
        pod(&control_plane(1), "etcd")["spec"]["containers"][0]
            .get("env")
            .is_none()
    );
}

#[test]
fn volumes_are_sorted_and_replaced_by_name() {
    let mut control_plane = control_plane(1);
    let volume = |name: &str, path_type| HostPathMount {
        name: name.to_owned(),
        host_path: "/host".to_owned(),
        mount_path: format!("/{name}"),
        read_only: None,
        path_type,
    };
    control_plane.scheduler.extra_volumes = vec![
        volume("z", None),
        volume("kubeconfig", Some(HostPathType::File)),
        volume("a", Some(HostPathType::Socket)),
    ];
    let pod = pod(&control_plane, "kube-scheduler");
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            {"name": "a", "hostPath": {"path": "/host", "type": "Socket"}},
            {"name": "kubeconfig", "hostPath": {"path": "/host", "type": "File"}},
            {"name": "z", "hostPath": {"path": "/host", "type": ""}},
        ])
    );
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"],
        json!([
            {"name": "a", "mountPath": "/a"},
            {"name": "kubeconfig", "mountPath": "/kubeconfig"},
            {"name": "z", "mountPath": "/z"},
        ])
    );
}

#[test]
fn ca_folders_get_valid_and_distinct_volume_names() {
    let mut control_plane = control_plane(1);
    let long = format!("/srv/{}", "x".repeat(80));
    control_plane.machines[0].ca_directories = [
        "/usr/share/ca-certificates",
        "/etc/ssl/certs",
        "/srv/a/b",
        "/srv/a-b/",
        "/srv/My_CAs",
        "/",
        &long,
    ]
    .map(str::to_owned)
    .to_vec();
    let pod = pod(&control_plane, "kube-apiserver");
    let names: Vec<&str> = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], "ca-certs");
    for name in [
        "usr-share-ca-certificates",
        "srv-a-b",
        "srv-a-b-2",
        "srv-my-cas",
        "root",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 8, "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 63));
}

#[test]
fn advertise_client_urls_of_etcd_move_the_api_servers_target() {
    let mut control_plane = control_plane(1);
    let servers = |cp: &ControlPlane| flag_values(&command(cp, "kube-apiserver"), "etcd-servers");
    assert_eq!(servers(&control_plane), ["https://127.0.0.1:2379"]);
    members(&mut control_plane).extra_args =
        vec![arg("advertise-client-urls", "https://198.18.0.50:2379")];
    assert_eq!(servers(&control_plane), ["https://198.18.0.50:2379"]);
}

#[test]
fn ipv6_addresses_stand_in_brackets() {
    let mut control_plane = control_plane(1);
    control_plane.machines[0].address = "fd00::11".parse().unwrap();
    let line = command(&control_plane, "etcd");
    assert_eq!(
        flag_values(&line, "listen-client-urls"),
        ["https://[::1]:2379,https://[fd00::11]:2379"]
    );
    assert_eq!(
        flag_values(&line, "initial-cluster"),
        ["cp-1=https://[fd00::11]:2380"]
    );
    let line = command(&control_plane, "kube-apiserver");
    assert_eq!(flag_values(&line, "etcd-servers"), ["https://[::1]:2379"]);
    assert_eq!(flag_values(&line, "advertise-address"), ["fd00::11"]);
}

/// kubeadm's rule: a folder once, and not what is mounted already.
#[test]
fn files_of_an_external_etcd_are_mounted_once() {
    let mut control_plane = control_plane(1);
    let file = |path: &str| path.to_owned();
    let external = |ca: &str, certificate: &str, key: &str| {
        Etcd::External(ExternalEtcd {
            endpoints: vec!["https://e:2379".to_owned()],
            ca_file: Some(file(ca)),
            client: Some(ClientFiles {
                certificate: file(certificate),
                key: file(key),
            }),
            credentials: EtcdCredentials::Given(Vec::new()),
        })
    };
    let mounted = |control_plane: &ControlPlane| -> Vec<String> {
        let pod = apiserver::pod(control_plane, &control_plane.machines[0]).unwrap();
        let volumes = pod.spec.unwrap().volumes.unwrap();
        let etcd = volumes
            .into_iter()
            .filter(|volume| volume.name.starts_with("etcd-certs"));
        etcd.map(|volume| format!("{} {}", volume.name, volume.host_path.unwrap().path))
            .collect()
    };
    control_plane.etcd = external("/srv/a/ca.crt", "/srv/a/b/c.crt", "/srv/ab/c.key");
    assert_eq!(
        mounted(&control_plane),
        ["etcd-certs-0 /srv/a", "etcd-certs-1 /srv/ab"]
    );
    control_plane.etcd = external(
        "/etc/kubernetes/pki/etcd/ca.crt",
        "/etc/ssl/certs/c.crt",
        "/etc/kubernetes/pki/c.key",
    );
    assert_eq!(mounted(&control_plane), Vec::<String>::new());
}
