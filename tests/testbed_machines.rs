//! The machines of the testbed themselves: they boot from user data, reach each other and nothing
//! else, keep their disks, and leave nothing behind.
#[path = "testbed/mod.rs"]
mod testbed;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use testbed::{
    StateDir,
    images::content::TOOLS_IMAGE,
    loadbalancer::LoadBalancer,
    machine::{Machine, kubeadm},
    network::{Network, cni_conflist},
    rootfs::{self, Software},
};

const BOOT: Duration = Duration::from_secs(180);

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, last)
}

#[test]
fn machines_boot_from_user_data_and_leave_nothing_behind() -> Result<()> {
    let rootfs = rootfs::prepare(&Software::built()?)?;
    let state = StateDir::for_test("machines")?;
    let network = Network::create(&state)?;
    let mut machines = Vec::new();
    for number in 1..=2_u8 {
        let user_data = format!(
            "#cloud-config\nwrite_files:\n- path: /etc/proof\n  permissions: '0600'\n  \
             content: machine {number}\nruncmd:\n- [touch, /etc/ran]\n"
        );
        let name = format!("m-{number}");
        let address = address(10 + number);
        machines.push(Machine::create(
            &state,
            &network,
            &rootfs,
            &name,
            address,
            user_data.as_bytes(),
        )?);
    }
    let begin = std::time::Instant::now();
    for machine in &machines {
        machine.boot()?;
    }
    for machine in &machines {
        machine.wait_booted(BOOT)?;
        eprintln!("{} booted after {:?}", machine.name(), begin.elapsed());
    }
    ensure!(
        machines[0].exec(&["cat", "/etc/proof"])? == "machine 1",
        "user data was not applied"
    );
    machines[0].exec(&["test", "-e", "/etc/ran"])?;
    machines[0].exec(&["ping", "-c1", "-W5", "198.18.0.12"])?;
    Ok(())
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
    eprintln!("kubeadm: {elapsed:?}");
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
