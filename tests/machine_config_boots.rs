//! A real machine boots from a rendered machine config: all files, in time, and a success marker
//! that tells the truth. What runs on it afterwards is the end-to-end tests' matter.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of real machines wait for them"
)]

#[path = "testbed/mod.rs"]
mod testbed;
#[path = "support/user_data.rs"]
mod user_data;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::machine::Machine;
use testbed::network::Network;
use testbed::rootfs::{self, Software};
use testbed::{StateDir, progress};

const BOOT: Duration = Duration::from_secs(180);
const MARKER: &str = "/run/cluster-api/bootstrap-success.complete";

/// Puts `machine_config` into the spec and returns the user data.
fn rendered(folder: &Path, machine_config: &str) -> Result<Vec<u8>> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/single.yaml");
    let extra = format!(
        "spec:\n  kubelet: {{config: {{cgroupDriver: cgroupfs, failCgroupV1: false, \
         failSwapOn: false}}}}\n  machineConfig:\n{machine_config}"
    );
    let manifest = std::fs::read_to_string(example)?.replacen("spec:\n", &extra, 1);
    let file = folder.join("manifest.yaml");
    std::fs::write(&file, manifest)?;
    let mut render = Command::new(env!("CARGO_BIN_EXE_seedbed"));
    render
        .arg("render")
        .arg("-f")
        .arg(&file)
        .arg("-o")
        .arg(folder.join("out"));
    progress::output(&mut render)?;
    Ok(std::fs::read(folder.join("out/lab-1.user-data"))?)
}

/// A machine whose image starts the kubelet by itself, as the Kubernetes packages do.
fn machine(
    state: &StateDir,
    network: &Network,
    name: &str,
    last: u8,
    user_data: &[u8],
) -> Result<Machine> {
    let rootfs = rootfs::prepare(&Software::built()?)?;
    let address = [198, 18, 0, last].into();
    let machine = Machine::create(state, network, &rootfs, name, address, user_data)?;
    let wants = machine.file("/etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    let link = wants.join("kubelet.service");
    if !link.is_symlink() {
        symlink("/usr/lib/systemd/system/kubelet.service", link)?;
    }
    machine.boot()?;
    Ok(machine)
}

#[test]
fn a_machine_boots_from_its_machine_config() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let user_data = rendered(
        folder.path(),
        "    sizeBudgetBytes: 13000\n    \
         files: [{path: /etc/example/of-a-user, owner: 'systemd-network:adm', content: mine}]\n    \
         preCommands: ['systemctl is-active kubelet > /root/before || true', \
         'ps -C kubelet > /root/processes || true']\n    \
         postCommands: ['systemctl is-active kubelet > /root/after']\n",
    )?;
    ensure!(
        user_data.starts_with(b"MIME-Version"),
        "compressed, as most platforms get it"
    );
    let state = StateDir::for_test("machine-config-boots")?;
    let network = Network::create(&state)?;
    let machine = machine(&state, &network, "lab-1", 21, &user_data)?;
    machine.wait_booted(BOOT)?;

    for entry in user_data::parse(&user_data).write_files {
        let shown = machine.exec(&["stat", "-c", "%a %U:%G %s", &entry.path])?;
        let wanted = format!("{:o} {} {}", entry.mode(), entry.owner, entry.bytes().len());
        ensure!(
            shown.trim() == wanted,
            "{}: {shown}, not {wanted}",
            entry.path
        );
        let there = std::fs::read(machine.file(&entry.path))?;
        ensure!(there == entry.bytes(), "{} has other bytes", entry.path);
    }
    for private in [
        "/etc/kubernetes/manifests",
        "/var/lib/kubelet",
        "/var/lib/etcd",
    ] {
        let mode = machine.exec(&["stat", "-c", "%a", private])?;
        ensure!(mode.trim() == "700", "{private}: {mode}");
    }
    let note = |path: &str| machine.exec(&["cat", path]);
    ensure!(
        note("/root/before")?.trim() == "inactive",
        "{}",
        note("/root/before")?
    );
    ensure!(
        !note("/root/processes")?.contains("kubelet"),
        "the kubelet ran too early"
    );
    ensure!(
        note("/root/after")?.trim() == "active",
        "{}",
        note("/root/after")?
    );
    ensure!(note(MARKER)?.trim() == "success");
    ensure!(
        machine
            .exec(&["systemctl", "is-enabled", "kubelet"])?
            .trim()
            == "enabled"
    );
    Ok(())
}

#[test]
fn a_failed_command_leaves_the_kubelet_down_for_good() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let user_data = rendered(
        folder.path(),
        "    preCommands: ['mount /dev/disk/by-label/etcd /var/lib/etcd', 'touch /root/too-far']\n",
    )?;
    ensure!(
        user_data.starts_with(b"#cloud-config"),
        "readable, as it is small"
    );
    let state = StateDir::for_test("machine-config-fails")?;
    let network = Network::create(&state)?;
    let machine = machine(&state, &network, "lab-2", 22, &user_data)?;
    let Err(error) = machine.wait_booted(BOOT) else {
        bail!("a failed command has to fail cloud-init");
    };
    ensure!(format!("{error:#}").contains("cloud-final"), "{error:#}");
    let log = machine.exec(&["cat", "/var/log/cloud-init-output.log"])?;
    ensure!(log.contains("seedbed: preCommands[0]"), "{log}");
    ensure!(
        log.contains("the first boot failed at the step above"),
        "{log}"
    );
    let absent = |path: &str| machine.exec(&["test", "!", "-e", path]);
    absent("/root/too-far")?;
    absent(MARKER)?;
    let down = |when: &str| {
        let state = machine.exec(&["sh", "-c", "systemctl is-active kubelet || true"])?;
        ensure!(state.trim() == "inactive", "{when}: the kubelet is {state}");
        Ok(())
    };
    down("after the failure")?;
    machine.power_off()?;
    machine.boot()?;
    // cloud-init runs once an instance: this boot is an ordinary one.
    machine.wait_booted(BOOT).context("second boot")?;
    down("after another boot")?;
    absent(MARKER).map(drop)
}
