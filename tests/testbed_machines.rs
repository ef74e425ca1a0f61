//! The machines of the testbed themselves: they boot from user data, reach each other and nothing
//! else, keep their disks, and leave nothing behind.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of real machines wait for them"
)]

#[path = "testbed/mod.rs"]
mod testbed;

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use testbed::{
    StateDir, cache_dir,
    images::content::TOOLS_IMAGE,
    loadbalancer::LoadBalancer,
    machine::{Machine, kubeadm},
    network::{Network, cni_conflist},
    progress::say,
    rootfs::{self, Software},
};

const BOOT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);
/// The environment variable with the file that the victim writes its name to.
const VICTIM: &str = "SEEDBED_TESTBED_VICTIM";

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, last)
}

fn user_data(number: u8) -> String {
    format!(
        "#cloud-config
write_files:
- {{path: /etc/proof, permissions: '0600', content: machine {number}}}
runcmd:
- [touch, /etc/ran]
"
    )
}

fn two_machines(state: &StateDir, network: &Network) -> Result<Vec<Machine>> {
    let rootfs = rootfs::prepare(&Software::built()?)?;
    let machines = (1..=2_u8)
        .map(|number| {
            let user_data = user_data(number);
            Machine::create(
                state,
                network,
                &rootfs,
                &format!("m-{number}"),
                address(10 + number),
                user_data.as_bytes(),
            )
        })
        .collect::<Result<Vec<_>>>()?;
    boot_all(&machines)?;
    Ok(machines)
}

fn boot_all(machines: &[Machine]) -> Result<()> {
    let begin = Instant::now();
    for machine in machines {
        machine.boot()?;
    }
    for machine in machines {
        machine.wait_booted(BOOT)?;
    }
    say(&format!(
        "{} machines booted after {:?}",
        machines.len(),
        begin.elapsed()
    ));
    Ok(())
}

fn read(machine: &Machine, path: &str) -> Result<String> {
    machine.exec(&["cat", path])
}

#[test]
fn machines_boot_from_user_data_and_keep_their_disks() -> Result<()> {
    let state = StateDir::for_test("machines")?;
    let network = Network::create(&state)?;
    let machines = two_machines(&state, &network)?;
    let [one, two] = machines.as_slice() else {
        bail!("two machines were asked for")
    };

    ensure!(
        read(one, "/etc/proof")? == "machine 1",
        "user data was not applied"
    );
    one.exec(&["test", "-e", "/etc/ran"])?;
    ensure!(
        read(one, "/etc/machine-id")? != read(two, "/etc/machine-id")?,
        "one machine ID"
    );
    ensure!(one.exec(&["hostname"])?.trim() == "m-1");
    ensure!(
        one.journal("containerd")?
            .contains("containerd successfully booted")
    );

    let reachable = |target: &str| one.exec(&["ping", "-c1", "-W2", target]).is_ok();
    ensure!(reachable("m-2"), "m-1 does not reach m-2");
    ensure!(
        one.exec(&["ip", "route", "show", "default"])?.is_empty(),
        "there is a way out"
    );
    network.link_down("m-2")?;
    ensure!(!reachable("m-2"), "m-2 is reached through a pulled cable");
    network.link_up("m-2")?;
    ensure!(reachable("m-2"), "m-2 is not reached through its cable");

    one.exec(&["sh", "-c", "echo kept > /var/lib/kept; rm /etc/ran"])?;
    one.power_off()?;
    ensure!(
        !one.is_on() && one.exec(&["true"]).is_err(),
        "a machine without power runs commands"
    );
    boot_all(&machines[..1])?;
    ensure!(
        read(one, "/var/lib/kept")? == "kept\n",
        "the disk was lost with the power"
    );
    ensure!(
        one.exec(&["test", "-e", "/etc/ran"]).is_err(),
        "user data was applied twice"
    );

    one.shutdown(BOOT)?;
    one.reimage(user_data(3).as_bytes())?;
    boot_all(&machines[..1])?;
    ensure!(
        read(one, "/etc/proof")? == "machine 3",
        "the new user data was not applied"
    );
    ensure!(
        read(one, "/var/lib/kept").is_err(),
        "the disk survived a new image"
    );

    two.provision(user_data(4).as_bytes())?;
    ensure!(
        read(two, "/etc/proof")? == "machine 4",
        "user data was not applied while running"
    );

    let name = state.name().to_owned();
    drop((machines, network, state));
    nothing_left(&name)
}

/// Fails while there is any process, mount, network namespace, cgroup or folder of the run `name`.
fn nothing_left(name: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(name), "mounts are left:\n{mounts}");
    let cgroups = std::fs::read_to_string("/proc/self/cgroup")?;
    let mut folders = vec![PathBuf::from("/run/netns"), cache_dir()?.join("run")];
    folders.extend(
        std::fs::read_dir("/sys/fs/cgroup")?
            .flatten()
            .map(|entry| entry.path()),
    );
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let left = entry.file_name().to_string_lossy().starts_with(name);
            ensure!(!left, "{} is left\n{cgroups}", entry.path().display());
        }
    }
    Ok(())
}

/// This very test program is started again, and killed once its machine has booted.
#[test]
fn a_killed_test_leaves_nothing_behind() -> Result<()> {
    let marker = tempfile::NamedTempFile::new()?;
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--ignored"])
        .env(VICTIM, marker.path())
        .spawn()?;
    let deadline = Instant::now() + BOOT;
    let name = loop {
        let name = std::fs::read_to_string(marker.path())?;
        if !name.is_empty() {
            break name;
        }
        ensure!(victim.try_wait()?.is_none(), "the victim ended by itself");
        ensure!(
            Instant::now() < deadline,
            "the victim's machines have not booted"
        );
        std::thread::sleep(POLL);
    };
    ensure!(
        nothing_left(&name).is_err(),
        "the check does not see a running machine"
    );
    victim.kill()?;
    victim.wait()?;
    while let Err(e) = nothing_left(&name) {
        ensure!(Instant::now() < deadline, "{e}");
        std::thread::sleep(POLL);
    }
    Ok(())
}

#[test]
#[ignore = "started, and killed, by a_killed_test_leaves_nothing_behind"]
fn victim() -> Result<()> {
    let Some(marker) = std::env::var_os(VICTIM) else {
        bail!("only another test starts this one");
    };
    let state = StateDir::for_test("victim")?;
    let network = Network::create(&state)?;
    let machines = two_machines(&state, &network)?;
    std::fs::write(marker, state.name())?;
    loop {
        std::thread::park();
        ensure!(machines.iter().all(Machine::is_on));
    }
}

/// User data with a CNI configuration, as a user's `machineConfig.files` would bring it.
fn with_cni(pods: ipnet::Ipv4Net) -> String {
    let conflist: serde_json::Value =
        serde_json::from_str(&cni_conflist(pods)).expect("cni_conflist writes JSON");
    format!(
        "#cloud-config\nwrite_files:\n- path: /etc/cni/net.d/10-pods.conflist\n  content: '{conflist}'\n"
    )
}

#[test]
fn stock_kubeadm_brings_up_three_control_planes() -> Result<()> {
    let software = Software::built()?;
    let rootfs = rootfs::prepare(&software)?;
    let state = StateDir::for_test("kubeadm")?;
    let network = Network::create(&state)?;
    let mut machines = Vec::new();
    for number in 1..=3_u8 {
        let pods: ipnet::Ipv4Net = format!("198.18.{}.0/24", 64 + number).parse()?;
        let name = format!("cp-{number}");
        let at = address(10 + number);
        let user_data = with_cni(pods);
        let machine = Machine::create(&state, &network, &rootfs, &name, at, user_data.as_bytes())?;
        machines.push((machine, pods));
    }
    let backends: Vec<_> = machines
        .iter()
        .map(|(m, _)| (m.name().to_owned(), m.address()))
        .collect();
    let balancer = LoadBalancer::start(&state, &network, address(10), 6443, &backends)?;
    for (machine, pods) in &machines {
        network.route_pods(*pods, machine.address())?;
    }
    let machines: Vec<Machine> = machines.into_iter().map(|(machine, _)| machine).collect();
    for machine in &machines {
        machine.boot()?;
    }
    for machine in &machines {
        machine.wait_booted(BOOT)?;
    }
    let elapsed = kubeadm::bring_up(
        &machines,
        &kubeadm::Options {
            version: software.tags.kubernetes.clone(),
            endpoint: format!("{}:{}", balancer.address, balancer.port),
            pod_cidr: "198.18.64.0/18".into(),
            service_cidr: "198.19.0.0/16".into(),
            skip_addons: false,
            etcdctl: software.images.etcdctl.clone(),
        },
    )?;
    say(&format!("kubeadm: {elapsed:?}"));
    pods_resolve_and_reach_the_api_server(&machines[0])
}

fn pods_resolve_and_reach_the_api_server(machine: &Machine) -> Result<()> {
    let script = "until nslookup kubernetes.default.svc.cluster.local; do sleep 1; done; \
                  exec curl --insecure --fail --silent https://kubernetes.default/version";
    kubeadm::kubectl(
        machine,
        &[
            "run",
            "probe",
            "--restart=Never",
            &format!("--image={TOOLS_IMAGE}"),
            r#"--overrides={"spec":{"tolerations":[{"operator":"Exists"}]}}"#,
            "--command",
            "--",
            "sh",
            "-c",
            script,
        ],
    )?;
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    let waited = kubeadm::kubectl(machine, &["wait", done, "pod/probe", "--timeout=180s"]);
    let seen = kubeadm::kubectl(machine, &["get", "pods,nodes", "-A", "-o", "wide"])?;
    waited.with_context(|| {
        let log = kubeadm::kubectl(machine, &["logs", "probe"]);
        let about = kubeadm::kubectl(machine, &["describe", "pods", "-A"]);
        format!("{seen}\n{log:?}\n{}", about.unwrap_or_default())
    })?;
    let log = kubeadm::kubectl(machine, &["logs", "probe"])?;
    ensure!(log.contains("\"gitVersion\": \"v1.37.1\""), "{log}");
    Ok(())
}
