//! Programs that come as Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::{cache, progress};

/// A program and the Debian package that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// What is called.
    pub name: &'static str,
    /// What to install.
    pub package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

/// What machines and their network need.
pub const MACHINES: [Program; 9] = [
    program("debootstrap", "debootstrap"),
    program("systemd-nspawn", "systemd-container"),
    program("ip", "iproute2"),
    program("nft", "nftables"),
    program("iptables", "iptables"),
    program("haproxy", "haproxy"),
    program("runc", "runc"),
    program("cc", "gcc"),
    program("sysctl", "procps"),
];

/// What checks a machine config outside of a machine.
pub const CLOUD_INIT: [Program; 1] = [program("cloud-init", "cloud-init")];

/// Makes sure that `programs` are there: installs what is missing when this is root on a Debian,
/// else fails and names the packages.
pub fn ensure(programs: &[Program]) -> Result<()> {
    if missing(programs).is_empty() {
        return Ok(());
    }
    let _lock = cache::lock(
        &cache::cache_dir()?.join("packages.lock"),
        "install packages",
    )?;
    let packages = missing(programs);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!("missing programs; as root, run: apt-get install {list}");
    }
    if find("apt-get").is_none() {
        bail!("missing programs, and this is no Debian; install what these packages hold: {list}");
    }
    if packages.contains(&"cloud-init") {
        disable_cloud_init()?;
    }
    let log = cache::cache_dir()?.join("packages.log");
    progress::run("update the package lists", apt().arg("update"), &log)?;
    let mut install = apt();
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&packages);
    progress::run(&format!("install {list}"), &install, &log)?;
    let still = missing(programs);
    if !still.is_empty() {
        bail!(
            "installed, yet programs of these packages are missing: {}",
            still.join(" ")
        );
    }
    Ok(())
}

/// The packages to install for those of `programs` that are not there, sorted.
pub fn missing(programs: &[Program]) -> Vec<&'static str> {
    let mut packages: Vec<_> = programs
        .iter()
        .filter(|p| find(p.name).is_none())
        .map(|p| p.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Where `program` is: on the search path, or in the system folders that the path of an ordinary
/// user lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
    apt
}

// The package would otherwise set up this very computer at its next boot.
fn disable_cloud_init() -> Result<()> {
    let marker = Path::new("/etc/cloud/cloud-init.disabled");
    if !Path::new("/etc/cloud").exists() {
        std::fs::create_dir("/etc/cloud")?;
        std::fs::write(marker, "Installed only for its schema check.\n")?;
    }
    Ok(())
}
