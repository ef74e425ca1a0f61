//! The load balancer in front of the API servers, as the guides for highly available clusters
//! set it up: haproxy in TCP mode with a health check on `/readyz` over TLS.

use std::{fmt::Write, net::Ipv4Addr, process::Command};

use anyhow::Result;

use super::{
    network::Network,
    process::{Process, Spawn},
    state::StateDir,
};

/// A running haproxy in a namespace of its own.
pub struct LoadBalancer {
    process: Process,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// The port it listens on.
    pub port: u16,
}

impl LoadBalancer {
    /// Starts it at `address:port` in front of `backends` (name, address; same port). Backends
    /// that do not answer yet are taken in as soon as they do.
    pub fn start(
        state: &StateDir,
        network: &Network,
        address: Ipv4Addr,
        port: u16,
        backends: &[(String, Ipv4Addr)],
    ) -> Result<Self> {
        let namespace = network.attach("loadbalancer", address)?;
        let file = state.join("haproxy.cfg");
        std::fs::write(&file, config(address, port, backends))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let how = Spawn {
            netns: Some(namespace),
            ..Spawn::default()
        };
        let process = Process::spawn(state, "loadbalancer", &command, &how)?;
        Ok(Self {
            process,
            address,
            port,
        })
    }

    /// The process, to stop it or to see its log.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// haproxy's configuration. A check every half second and one good answer, so that bring-up does not wait
/// for the load balancer; two bad answers take a backend out.
fn config(address: Ipv4Addr, port: u16, backends: &[(String, Ipv4Addr)]) -> String {
    let mut text = format!(
        "global
  log stdout format raw daemon info
  maxconn 1000
defaults
  mode tcp
  log global
  option redispatch
  retries 3
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  timeout check 2s
frontend kubernetes
  bind {address}:{port}
  default_backend kubernetes
backend kubernetes
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server check check-ssl verify none inter 500ms fall 2 rise 1
"
    );
    for (name, backend) in backends {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  server {name} {backend}:{port}");
    }
    text
}
