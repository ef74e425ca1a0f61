//! Packets that a machine drops or sends elsewhere.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};

use super::Host;
use crate::testbed::netns;

impl Host {
    /// Drops every packet from and to an address.
    pub fn cut_off(&self, other: Ipv4Addr) -> Result<()> {
        self.filter(&[
            format!("add rule inet faults in ip saddr {other} drop"),
            format!("add rule inet faults out ip daddr {other} drop"),
        ])
    }

    /// Drops what comes from an address; what goes there passes.
    pub fn deaf_to(&self, other: Ipv4Addr) -> Result<()> {
        self.filter(&[format!("add rule inet faults in ip saddr {other} drop")])
    }

    /// Takes no more than so many KiB a second from others.
    pub fn throttle(&self, kib: u32) -> Result<()> {
        self.filter(&[format!(
            "add rule inet faults in iif eth0 limit rate over {kib} kbytes/second burst 16 kbytes drop"
        )])
    }

    /// No packet is dropped any more.
    pub fn heal(&self) -> Result<()> {
        self.filters().clear();
        self.filter(&[])
    }

    fn filter(&self, more: &[String]) -> Result<()> {
        let mut filters = self.filters();
        filters.extend_from_slice(more);
        let chain = |name: &str, hook: &str| {
            format!(
                "add chain inet faults {name} {{ type filter hook {hook} priority 0; policy accept; }}\n"
            )
        };
        let rules = format!(
            "add table inet faults\ndelete table inet faults\nadd table inet faults\n{}{}{}\n",
            chain("in", "input"),
            chain("out", "output"),
            filters.join("\n")
        );
        self.nft(&rules)
    }

    /// Sends new connections from `from` to port 2379 to another port.
    pub fn redirect(&self, from: Ipv4Addr, port: u16) -> Result<()> {
        self.nft(&format!(
            "add table ip way\ndelete table ip way\nadd table ip way\n\
             add chain ip way pre {{ type nat hook prerouting priority -100; }}\n\
             add rule ip way pre ip saddr {from} tcp dport 2379 redirect to :{port}\n"
        ))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let mut child = netns::command(Some(&self.netns()), "nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("nft")?;
        child
            .stdin
            .take()
            .context("no stdin")?
            .write_all(rules.as_bytes())?;
        let status = child.wait()?;
        ensure!(status.success(), "nft: {status}\n{rules}");
        Ok(())
    }

    fn filters(&self) -> MutexGuard<'_, Vec<String>> {
        self.0
            .filters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
