//! A real machine boots from a rendered machine config: all files, in time, and a success marker
//! that tells the truth. What runs on it afterwards is the end-to-end tests' matter.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of real machines wait for them"
)]

#[path = "support/ignition.rs"]
mod ignition;
#[path = "testbed/mod.rs"]
mod testbed;
#[path = "support/user_data.rs"]
mod user_data;

use std::os::unix::fs::{PermissionsExt as _, symlink};
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
    machine.boot()?;
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
    machine.boot()?;
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
    // cloud-init runs once an instance: the next boot is an ordinary one.
    stays_down(&machine)
}

/// After a failed first boot, and after another one: no later step, no marker and no kubelet.
fn stays_down(machine: &Machine) -> Result<()> {
    let down = |when: &str| {
        machine.exec(&["test", "!", "-e", "/root/too-far"])?;
        machine.exec(&["test", "!", "-e", MARKER])?;
        let state = machine.exec(&["sh", "-c", "systemctl is-active kubelet || true"])?;
        ensure!(state.trim() == "inactive", "{when}: the kubelet is {state}");
        Ok(())
    };
    down("after the failure")?;
    machine.power_off()?;
    machine.boot()?;
    machine.wait_booted(BOOT).context("second boot")?;
    down("after another boot")
}

/// What Ignition does before the first boot, on a disk: files, units, and presets, which systemd's
/// own tool applies.
fn ignite(machine: &Machine, user_data: &[u8]) -> Result<()> {
    let config = ignition::parse(user_data);
    let write = |path: &str, mode: u32, content: &[u8]| -> Result<()> {
        let file = machine.file(path);
        std::fs::create_dir_all(file.parent().context("a folder")?)?;
        std::fs::write(&file, content)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
        Ok(())
    };
    for file in &config.files {
        ensure!(file.owner == "root:root", "{} of {}", file.path, file.owner);
        write(&file.path, file.mode, &file.content)?;
    }
    let mut presets = String::new();
    for (name, enabled, content) in &config.units {
        if let Some(content) = content {
            let path = format!("/etc/systemd/system/{name}");
            write(&path, 0o644, content.as_bytes())?;
        }
        let word = if *enabled { "enable" } else { "disable" };
        presets.push_str(&format!("{word} {name}\n"));
    }
    let path = "/etc/systemd/system-preset/20-ignition.preset";
    write(path, 0o644, presets.as_bytes())?;
    let mut preset = Command::new("chroot");
    preset.arg(machine.file("/")).args(["systemctl", "preset"]);
    let names = config.units.iter().map(|(name, _, _)| name);
    progress::output(preset.args(names)).map(drop)
}

/// A machine of which cloud-init wants nothing.
fn ignited(
    state: &StateDir,
    network: &Network,
    name: &str,
    last: u8,
    machine_config: &str,
) -> Result<Machine> {
    let folder = tempfile::tempdir()?;
    let machine_config = format!("    format: Ignition\n{machine_config}");
    let user_data = rendered(folder.path(), &machine_config)?;
    let machine = machine(state, network, name, last, b"#cloud-config\n{}\n")?;
    ignite(&machine, &user_data)?;
    machine.boot()?;
    Ok(machine)
}

#[test]
fn a_machine_boots_from_an_ignition_config_once() -> Result<()> {
    let state = StateDir::for_test("ignition-boots")?;
    let network = Network::create(&state)?;
    let config = "    preCommands: ['systemctl is-active kubelet > /root/before || true', \
                  'echo once >> /root/runs']\n    \
                  postCommands: ['systemctl is-active kubelet > /root/after']\n";
    let machine = ignited(&state, &network, "lab-1", 23, config)?;
    machine.wait_booted(BOOT)?;
    let note =
        |path: &str| -> Result<String> { Ok(machine.exec(&["cat", path])?.trim().to_owned()) };
    ensure!(note(MARKER)? == "success");
    ensure!(note("/root/before")? == "inactive");
    ensure!(note("/root/after")? == "active");
    let mode = machine.exec(&["stat", "-c", "%a", "/var/lib/kubelet"])?;
    ensure!(mode.trim() == "700", "{mode}");
    machine.shutdown(BOOT)?;
    machine.boot()?;
    machine.wait_booted(BOOT).context("second boot")?;
    ensure!(note("/root/runs")? == "once");
    machine.exec(&["systemctl", "is-active", "kubelet"])?;
    machine.exec(&["test", "!", "-e", MARKER]).map(drop)
}

#[test]
fn with_ignition_a_failed_command_leaves_the_kubelet_down_for_good() -> Result<()> {
    let state = StateDir::for_test("ignition-fails")?;
    let network = Network::create(&state)?;
    let config = "    preCommands: ['mount /dev/disk/by-label/etcd /var/lib/etcd', \
                  'touch /root/too-far']\n";
    let machine = ignited(&state, &network, "lab-2", 24, config)?;
    let Err(error) = machine.wait_booted(BOOT) else {
        bail!("a failed command has to fail the unit");
    };
    let error = format!("{error:#}");
    ensure!(error.contains("seedbed-first-boot"), "{error}");
    let log = machine.journal("seedbed-first-boot")?;
    for words in [
        "seedbed: preCommands[0]",
        "the first boot failed at the step above",
    ] {
        ensure!(log.contains(words), "{log}");
    }
    stays_down(&machine)
}
