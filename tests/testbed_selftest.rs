//! The testbed itself: what it starts it also ends.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for real processes"
)]

#[path = "testbed/mod.rs"]
mod testbed;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::process::{self, Spawn};
use testbed::{Process, StateDir};

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

fn gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn dropping_the_state_ends_processes_undoes_acts_and_removes_the_folder() {
    let state = StateDir::for_test("selftest-drop").unwrap();
    let (path, witness) = (state.path().to_owned(), tempfile::tempdir().unwrap());
    let first = witness.path().join("first");
    std::fs::create_dir(&first).unwrap();
    // Undone last first: the inner folder has to go before the outer one can.
    state
        .undo_later(&["rmdir", witness.path().to_str().unwrap()])
        .unwrap();
    state
        .undo_later(&["rmdir", first.to_str().unwrap()])
        .unwrap();
    let process = Process::spawn(&state, "sleeper", &sleeper(), &Spawn::default()).unwrap();
    let pid = process.pid();
    assert!(process.is_running());
    assert!(process::recorded(&state).unwrap()[0].running);
    drop(state);
    assert!(!gone(pid), "the process keeps the state alive");
    drop(process);
    assert!(gone(pid));
    assert!(!path.exists());
    assert!(!witness.path().exists());
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let state = StateDir::for_test("selftest-stubborn").unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    let how = Spawn {
        grace: Duration::from_millis(300),
        ..Spawn::default()
    };
    let process = Process::spawn(&state, "stubborn", &command, &how).unwrap();
    while !process.log_tail().contains("ready") {
        process.check().unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    process.stop().unwrap();
    assert!(gone(process.pid()));
    assert!(process::recorded(&state).unwrap().is_empty());
}

#[test]
fn a_recycled_process_id_is_left_alone() {
    let state = StateDir::for_test("selftest-recycled").unwrap();
    let process = Process::spawn(&state, "bystander", &sleeper(), &Spawn::default()).unwrap();
    let file = state.join("processes/bystander.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["start_time"] = serde_json::json!(1);
    std::fs::write(&file, record.to_string()).unwrap();
    assert!(!process::recorded(&state).unwrap()[0].running);
    state.down().unwrap();
    assert!(
        process.is_running(),
        "only the recorded process may be stopped"
    );
    process.kill().unwrap();
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() {
    let state = StateDir::for_test("selftest-thread").unwrap();
    let process = std::thread::scope(|scope| {
        scope
            .spawn(|| Process::spawn(&state, "sleeper", &sleeper(), &Spawn::default()).unwrap())
            .join()
            .unwrap()
    });
    // Long enough for a death signal that came with the thread's end to arrive.
    std::thread::sleep(Duration::from_millis(200));
    process.check().unwrap();
}

#[test]
fn a_program_that_does_not_exist_is_an_error_with_its_log() {
    let state = StateDir::for_test("selftest-missing").unwrap();
    let command = Command::new("/nonexistent/program");
    let process = Process::spawn(&state, "missing", &command, &Spawn::default()).unwrap();
    while process.is_running() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = process.check().unwrap_err().to_string();
    assert!(error.contains("/nonexistent/program"), "{error}");
}

#[test]
fn a_failed_command_shows_the_end_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "seq 1 100; exit 3"]);
    let error = testbed::progress::run("counting", &command, &dir.path().join("log"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\n100") && !error.contains("\n70\n"),
        "{error}"
    );
}

#[test]
fn a_missing_program_is_named_by_its_package() {
    use testbed::packages::{Program, missing};

    let shell = Program {
        name: "sh",
        package: "dash",
    };
    let none = Program {
        name: "no-such-program",
        package: "no-such-package",
    };
    assert_eq!(missing(&[none, shell, none]), ["no-such-package"]);
}

#[test]
fn names_that_could_leave_the_cache_are_refused() {
    for name in ["", "../up", "Upper", "a b", "a/b"] {
        assert!(StateDir::named(name).is_err(), "{name:?}");
    }
}

mod seed {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
    use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
    use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
    use kube::runtime::wait::{await_condition, conditions};
    use serde_json::json;

    use super::testbed::seed::Options;
    use super::testbed::seed_access;
    use super::testbed::{Seed, StateDir, netns, process};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    async fn within_limit<T, E: Debug>(seed: &Seed, wait: impl Future<Output = Result<T, E>>) {
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(result) => drop(result.unwrap()),
            Err(_) => panic!("not within {LIMIT:?}\n{}", seed.log_tails()),
        }
    }

    fn config_map(name: &str, owner: Option<&ConfigMap>) -> ConfigMap {
        let owners = owner.map(|owner| {
            serde_json::from_value(json!([{
                "apiVersion": "v1", "kind": "ConfigMap",
                "name": owner.metadata.name, "uid": owner.metadata.uid,
            }]))
            .unwrap()
        });
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                owner_references: owners,
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([("key".to_owned(), "value".to_owned())])),
            ..ConfigMap::default()
        }
    }

    async fn apply(maps: &Api<ConfigMap>, map: &ConfigMap) -> ConfigMap {
        let mut value = serde_json::to_value(map).unwrap();
        value["apiVersion"] = json!("v1");
        value["kind"] = json!("ConfigMap");
        let name = map.metadata.name.as_deref().unwrap();
        maps.patch(name, &PatchParams::apply("selftest"), &Patch::Apply(value))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_seed_behaves_like_a_cluster_and_leaves_nothing() {
        let state = StateDir::for_test("selftest-seed").unwrap();
        let seed = Seed::start(&state, Options::default()).await.unwrap();
        let client = seed.client().await.unwrap();
        let pids: Vec<i32> = process::recorded(&state)
            .unwrap()
            .iter()
            .map(|p| p.pid)
            .collect();
        assert_eq!(pids.len(), 3);

        // Garbage collection and the end of a namespace, which the controllers do.
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let space = serde_json::from_value(json!({"metadata": {"name": "ends"}})).unwrap();
        namespaces
            .create(&PostParams::default(), &space)
            .await
            .unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "ends");
        let owner = apply(&maps, &config_map("owner", None)).await;
        let owned = apply(&maps, &config_map("owned", Some(&owner))).await;
        maps.delete("owner", &DeleteParams::background())
            .await
            .unwrap();
        let uid = owned.metadata.uid.unwrap();
        let collected = await_condition(maps.clone(), "owned", conditions::is_deleted(&uid));
        within_limit(&seed, collected).await;
        let space = namespaces.get("ends").await.unwrap();
        namespaces
            .delete("ends", &DeleteParams::default())
            .await
            .unwrap();
        let uid = space.metadata.uid.unwrap();
        let ended = await_condition(namespaces, "ends", conditions::is_deleted(&uid));
        within_limit(&seed, ended).await;

        // Data survives the API server; clients come back by themselves.
        let maps: Api<ConfigMap> = Api::namespaced(client, "default");
        apply(&maps, &config_map("kept", None)).await;
        seed.restart_api_server().await.unwrap();
        assert_eq!(
            maps.get("kept").await.unwrap().data.unwrap()["key"],
            "value"
        );
        seed.kill_api_server().unwrap();
        maps.get("kept").await.expect_err("nobody can answer");
        seed.start_api_server().await.unwrap();
        maps.get("kept").await.unwrap();

        let path = state.path().to_owned();
        drop(state);
        drop(seed);
        assert!(pids.into_iter().all(gone));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_service_account_has_the_rights_that_it_was_given() {
        let state = StateDir::for_test("selftest-account").unwrap();
        let seed = Seed::start(&state, Options::default()).await.unwrap();
        let client = seed.client().await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        let account = serde_json::from_value(json!({"metadata": {"name": "reader"}})).unwrap();
        accounts
            .create(&PostParams::default(), &account)
            .await
            .unwrap();
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "default");
        let binding = serde_json::from_value(json!({
            "metadata": {"name": "reader"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
        }))
        .unwrap();
        bindings
            .create(&PostParams::default(), &binding)
            .await
            .unwrap();
        // `view` is aggregated by a controller, shortly after the start.
        let roles: Api<ClusterRole> = Api::all(client);
        let filled = |role: Option<&ClusterRole>| {
            role.and_then(|r| r.rules.as_ref())
                .is_some_and(|rules| !rules.is_empty())
        };
        let aggregated = await_condition(roles, "view", filled);
        within_limit(&seed, aggregated).await;

        let file = seed
            .kubeconfig_for_service_account("default", "reader")
            .await
            .unwrap();
        let reader = seed_access::client(&file).await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(reader.clone(), "default");
        let deadline = std::time::Instant::now() + LIMIT;
        // The authorizer learns of a new role through a watch of its own.
        while let Err(e) = maps.list(&Default::default()).await {
            assert!(std::time::Instant::now() < deadline, "{e}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let denied = maps
            .create(&PostParams::default(), &config_map("x", None))
            .await;
        assert!(matches!(denied, Err(kube::Error::Api(e)) if e.code == 403));
        let elsewhere: Api<ConfigMap> = Api::namespaced(reader, "kube-system");
        assert!(elsewhere.list(&Default::default()).await.is_err());
    }

    #[test]
    fn a_seed_runs_inside_a_network_namespace() {
        assert!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root"
        );
        let state = StateDir::for_test("selftest-netns").unwrap();
        let name = state.name().to_owned();
        state.undo_later(&["ip", "netns", "delete", &name]).unwrap();
        for arguments in [
            vec!["netns", "add", &name],
            vec!["-n", &name, "link", "set", "lo", "up"],
            vec!["-n", &name, "address", "add", "198.18.0.1/32", "dev", "lo"],
        ] {
            super::testbed::progress::output(Command::new("ip").args(arguments)).unwrap();
        }
        let options = Options {
            listen: "198.18.0.1".parse().unwrap(),
            netns: Some(name.clone()),
            ..Options::default()
        };
        let seed = Seed::start_blocking(&state, &options).unwrap();
        let version = netns::inside(&name, || {
            tokio::runtime::Runtime::new()?
                .block_on(async { Ok(seed.client().await?.apiserver_version().await?) })
        });
        assert!(version.unwrap().git_version.starts_with("v1."));
        assert!(seed.is_ready(), "from outside, too");
        drop(seed);
        drop(state);
        assert!(!Path::new("/run/netns").join(name).exists());
    }
}
