use super::*;
use crate::pki::fixture::control_plane;

fn strings(ips: &[IpAddr]) -> Vec<String> {
    ips.iter().map(ToString::to_string).collect()
}

#[test]
fn the_kubeadm_profile_has_every_leaf_and_super_admin_on_the_first_machine_only() {
    let mut cp = control_plane(3);
    cp.profile = Profile::Kubeadm;
    let leaves = |n: usize| machine_leaves(&cp, &cp.machines[n]).unwrap();
    assert_eq!(leaves(0).keys().copied().collect::<Vec<_>>(), Leaf::ALL);
    assert_eq!(leaves(1).len(), 11);
    assert!(!leaves(1).contains_key(&Leaf::SuperAdminKubeconfig));
}

#[test]
fn the_standard_profile_leaves_out_what_no_component_uses() {
    let cp = control_plane(3);
    let leaves = machine_leaves(&cp, &cp.machines[0]).unwrap();
    assert_eq!(leaves.len(), 9);
    for leaf in [
        Leaf::EtcdHealthcheckClient,
        Leaf::AdminKubeconfig,
        Leaf::SuperAdminKubeconfig,
    ] {
        assert!(!leaves.contains_key(&leaf), "{leaf:?}");
    }
}

#[test]
fn the_api_server_has_kubeadms_names() {
    let mut cp = control_plane(3);
    cp.api_server.cert_sans = [
        "API.Example.net",
        "*.example.net",
        "203.0.113.7",
        "::ffff:198.18.0.11",
        "2001:DB8::0:1",
        "cp-1",
    ]
    .map(str::to_owned)
    .to_vec();
    let spec = leaf_spec(&cp, &cp.machines[0], Leaf::ApiServer).unwrap();
    assert_eq!(
        spec.dns_names,
        [
            "*.example.net",
            "api.example.net",
            "api.prod.example.net",
            "cp-1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
    );
    assert_eq!(
        strings(&spec.ip_addresses),
        ["10.96.0.1", "198.18.0.11", "203.0.113.7", "2001:db8::1"]
    );
    assert_eq!(spec.usages, [Usage::ServerAuth]);
}

#[test]
fn an_endpoint_that_is_an_address_becomes_an_ip_name() {
    let mut cp = control_plane(1);
    cp.endpoint.as_mut().unwrap().host = "198.18.0.100".to_owned();
    let spec = leaf_spec(&cp, &cp.machines[0], Leaf::ApiServer).unwrap();
    assert_eq!(
        strings(&spec.ip_addresses),
        ["10.96.0.1", "198.18.0.11", "198.18.0.100"]
    );
}

#[test]
fn etcd_members_have_both_loopbacks_and_their_own_additions() {
    let mut cp = control_plane(3);
    let Etcd::Stacked(members) = &mut cp.etcd else {
        panic!("not stacked");
    };
    members.server_cert_sans = vec!["etcd.example.net".to_owned(), "127.0.0.1".to_owned()];
    let server = leaf_spec(&cp, &cp.machines[1], Leaf::EtcdServer).unwrap();
    let peer = leaf_spec(&cp, &cp.machines[1], Leaf::EtcdPeer).unwrap();
    assert_eq!(server.subject.common_name, "cp-2");
    assert_eq!(server.dns_names, ["cp-2", "etcd.example.net", "localhost"]);
    assert_eq!(peer.dns_names, ["cp-2", "localhost"]);
    assert_eq!(
        strings(&server.ip_addresses),
        ["198.18.0.12", "127.0.0.1", "::1"]
    );
    assert_eq!(server.usages, [Usage::ServerAuth, Usage::ClientAuth]);
}

#[test]
fn the_group_of_the_kubelet_client_ends_with_a_patch_of_each_minor() {
    for (version, with_group) in [
        ("v1.31.14", true),
        ("v1.33.11", true),
        ("v1.33.12", false),
        ("v1.34.7", true),
        ("v1.34.8", false),
        ("v1.35.4", true),
        ("v1.35.5", false),
        ("v1.36.0", true),
        ("v1.36.1", false),
        ("v1.37.0", false),
        ("v1.38.0", false),
    ] {
        let mut cp = control_plane(1);
        cp.version = version.parse().unwrap();
        let spec = leaf_spec(&cp, &cp.machines[0], Leaf::ApiServerKubeletClient).unwrap();
        assert_eq!(spec.subject.organization.is_some(), with_group, "{version}");
    }
}

#[test]
fn a_service_range_of_one_address_is_an_error() {
    let mut cp = control_plane(1);
    cp.service_cidrs = vec!["10.96.0.0/32".parse().unwrap()];
    assert_eq!(
        machine_leaves(&cp, &cp.machines[0]).unwrap_err(),
        InventoryError::NoServiceAddress
    );
}

proptest::proptest! {
    #[test]
    fn names_are_sorted_and_unique(
        additions in proptest::collection::vec("[a-zA-Z0-9.*:-]{0,20}|[0-9]{1,3}(\\.[0-9]{1,3}){3}", 0..20),
    ) {
        let mut cp = control_plane(1);
        cp.api_server.cert_sans.clone_from(&additions);
        let spec = leaf_spec(&cp, &cp.machines[0], Leaf::ApiServer).unwrap();
        proptest::prop_assert!(spec.dns_names.is_sorted_by(|a, b| a < b));
        let unique: BTreeSet<_> = spec.ip_addresses.iter().collect();
        proptest::prop_assert_eq!(unique.len(), spec.ip_addresses.len());
        for name in additions {
            let found = match name.parse::<IpAddr>() {
                Ok(ip) => spec.ip_addresses.contains(&ip.to_canonical()),
                Err(_) => spec.dns_names.contains(&name.to_ascii_lowercase()),
            };
            proptest::prop_assert!(found, "{} is missing", name);
        }
    }
}
