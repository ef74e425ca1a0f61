//! Whatever a user writes, rendering neither panics nor depends on anything but its inputs.

use k8s_openapi::api::core::v1::EnvVar;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::crd::HostPathMount;

fn any_args() -> impl Strategy<Value = Vec<Arg>> {
    let name = prop_oneof![
        Just("listen-metrics-urls".to_owned()),
        Just("bind-address".to_owned()),
        Just("advertise-client-urls".to_owned()),
        ".{0,12}",
    ];
    let value = prop_oneof!["https?://[^ ]{0,20}(,.{0,10})?", "(?s).{0,30}"];
    vec(
        (name, value).prop_map(|(name, value)| Arg { name, value }),
        0..6,
    )
}

fn any_envs() -> impl Strategy<Value = Vec<EnvVar>> {
    let env = ("[A-C]{1,2}|.{0,8}", proptest::option::of("(?s).{0,12}"));
    vec(
        env.prop_map(|(name, value)| EnvVar {
            name,
            value,
            value_from: None,
        }),
        0..6,
    )
}

fn any_volumes() -> impl Strategy<Value = Vec<HostPathMount>> {
    let volume = (
        "[a-c]{1,2}|.{0,8}",
        "(?s).{0,12}",
        ".{0,12}",
        any::<Option<bool>>(),
    );
    vec(
        volume.prop_map(|(name, host_path, mount_path, read_only)| HostPathMount {
            name,
            host_path,
            mount_path,
            read_only,
            path_type: None,
        }),
        0..4,
    )
}

/// A value as a user may write it into `kubelet.config`.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(?s).{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{0,6}|anonymous|enabled", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rendering_never_panics_and_is_deterministic(
        args in any_args(),
        envs in any_envs(),
        volumes in any_volumes(),
        folders in vec("(?s)/.{0,80}", 0..4),
        config in proptest::collection::btree_map(
            "authentication|logging|clusterDNS|kind|[a-z]{0,8}", any_value(), 0..4,
        ),
        profile in prop_oneof![Just(Profile::Kubeadm), Just(Profile::Standard)],
    ) {
        let mut control_plane = control_plane(1);
        control_plane.profile = profile;
        members(&mut control_plane).extra_args = args.clone();
        members(&mut control_plane).extra_envs = envs.clone();
        for component in [
            &mut control_plane.api_server.component,
            &mut control_plane.controller_manager,
            &mut control_plane.scheduler,
        ] {
            component.extra_args = args.clone();
            component.extra_envs = envs.clone();
            component.extra_volumes = volumes.clone();
        }
        control_plane.kubelet.config = config;
        control_plane.kubelet.extra_args = args.clone();
        control_plane.machines[0].kubelet_extra_args = args;
        control_plane.machines[0].ca_directories = folders;
        let first = render(&control_plane, &control_plane.machines[0]);
        let second = render(&control_plane.clone(), &control_plane.machines[0]);
        prop_assert!(first == second);
        for file in &first {
            if file.path.ends_with(".yaml") {
                let text = std::str::from_utf8(&file.content).unwrap();
                let parsed: Result<Value, _> = serde_saphyr::from_str(text);
                prop_assert!(parsed.is_ok(), "{} is no YAML: {parsed:?}\n{text}", file.path);
            }
        }
    }
}
