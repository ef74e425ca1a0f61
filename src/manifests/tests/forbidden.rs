use k8s_openapi::api::core::v1::EnvVar;

use super::*;

fn refused(name: &str, value: &str) -> bool {
    forbidden_arg(ArgOwner::Etcd, &arg(name, value)).is_some()
}

fn env_refused(name: &str, value: Option<&str>) -> bool {
    let env = EnvVar {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        value_from: None,
    };
    forbidden_env(ArgOwner::Etcd, &env).is_some()
}

#[test]
fn membership_and_identity_are_not_the_users() {
    for name in [
        "name",
        "initial-cluster",
        "initial-cluster-state",
        "initial-cluster-token",
        "initial-advertise-peer-urls",
        "discovery-srv",
        "data-dir",
        "wal-dir",
        "config-file",
    ] {
        assert!(refused(name, "x"), "{name}");
    }
    for name in [
        "quota-backend-bytes",
        "listen-metrics-urls",
        "names",
        "initial-election-tick-advance",
    ] {
        assert!(!refused(name, "true"), "{name}");
    }
    assert!(forbidden_arg(ArgOwner::Kubelet, &arg("hostname-override", "x")).is_some());
    assert!(forbidden_arg(ArgOwner::Kubelet, &arg("name", "x")).is_none());
}

#[test]
fn safety_checks_may_be_written_out_but_not_turned_off() {
    for (value, allowed) in [
        ("true", true),
        ("1", true),
        ("T", true),
        ("false", false),
        ("", false),
        ("yes", false),
    ] {
        assert_eq!(refused("strict-reconfig-check", value), !allowed, "{value}");
    }
    for flag in ["unsafe-no-fsync", "force-new-cluster"] {
        for (value, allowed) in [("false", true), ("0", true), ("true", false), ("", false)] {
            assert_eq!(refused(flag, value), !allowed, "{flag}={value}");
        }
    }
}

#[test]
fn other_spellings_of_a_flag_are_refused_as_well() {
    assert!(refused("force-new-cluster=true", ""));
    assert!(refused("--name", "x"));
    assert!(forbidden_arg(ArgOwner::Kubelet, &arg("hostname_override", "x")).is_some());
    assert!(env_refused("ETCD_FORCE_NEW_CLUSTER", Some("true")));
    assert!(env_refused("ETCD_CONFIG_FILE", Some("/x")));
    assert!(env_refused("ETCD_STRICT_RECONFIG_CHECK", None));
    assert!(!env_refused("ETCD_STRICT_RECONFIG_CHECK", Some("true")));
    assert!(!env_refused("ETCD_QUOTA_BACKEND_BYTES", Some("1")));
    assert!(!env_refused("FORCE_NEW_CLUSTER", Some("true")));
}

#[test]
fn every_entry_says_what_to_do() {
    for entry in forbidden_args() {
        assert!(
            entry.why.contains(';'),
            "{}: what is wrong; what to do",
            entry.name
        );
    }
}
