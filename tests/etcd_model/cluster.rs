//! Real etcd members on loopback addresses of their own, started and broken at will.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustix::process::Signal;
use seedbed::etcd::{EtcdApi, EtcdClients, EtcdCredentials, MemberEndpoint};
use zeroize::Zeroizing;

use crate::state::MACHINES;
use crate::testbed::process::Spawn;
use crate::testbed::{Component, Process, StateDir, build};

/// etcd's own: quick enough for a busy machine.
const HEARTBEAT: &str = "--heartbeat-interval=50";
const ELECTION: &str = "--election-timeout=500";

/// A process that was started so long ago has connected.
const SLOW_START: Duration = Duration::from_secs(8);

/// The machines of one walk, whatever runs on them.
pub struct Cluster {
    state: StateDir,
    etcd: PathBuf,
    files: PathBuf,
    /// Unique in the run.
    name: String,
    network: (u8, u8),
    machines: [Host; MACHINES],
    clients: Arc<dyn EtcdApi>,
    ca_pem: String,
    identity: (String, String),
}

#[derive(Default)]
struct Host {
    process: Option<Process>,
    /// When it was stopped, if it is.
    frozen: Option<Instant>,
    /// It learned of the others from them when its process was started.
    learned: bool,
    /// When its process was started.
    started: Option<Instant>,
    /// When it and the others were first seen to be connected since then.
    joined: Option<Instant>,
    /// Members that have started here.
    generations: u32,
}

impl Cluster {
    /// Machines of place `place`, all empty.
    pub fn new(state: &StateDir, place: u8, name: &str) -> Result<Self> {
        let files = state.join(name);
        std::fs::create_dir_all(&files)?;
        // A network of its own in 127/8, so that runs beside each other do not meet.
        let network = (64 + (std::process::id() % 128) as u8, place);
        let address = |machine: usize| format!("127.{}.{}.{}", network.0, network.1, machine + 1);
        let addresses: Vec<String> = (0..MACHINES).map(address).collect();
        let (ca_pem, identity) = certificates(&files, addresses)?;
        let mut cluster = Self {
            state: state.clone(),
            etcd: build::ensure(Component::Etcd)?.join("etcd"),
            files,
            name: name.to_owned(),
            network,
            machines: Default::default(),
            clients: Arc::new(EtcdClients::new(credentials(&ca_pem, &identity))),
            ca_pem,
            identity,
        };
        cluster.forget_connections();
        Ok(cluster)
    }

    /// New clients: the connections of the old ones may lead to processes that are gone.
    pub fn forget_connections(&mut self) {
        self.clients = Arc::new(EtcdClients::new(credentials(&self.ca_pem, &self.identity)));
    }

    pub fn api(&self) -> Arc<dyn EtcdApi> {
        Arc::clone(&self.clients)
    }

    /// The client of etcd's own project, for what Seedbed never asks.
    pub async fn client(&self, machine: u8) -> Result<etcd_client::Client> {
        let (certificate, key) = &self.identity;
        let tls = etcd_client::TlsOptions::new()
            .ca_certificate(etcd_client::Certificate::from_pem(&self.ca_pem))
            .identity(etcd_client::Identity::from_pem(certificate, key));
        let options = etcd_client::ConnectOptions::new()
            .with_tls(tls)
            .with_timeout(Duration::from_secs(5));
        let url = self.endpoint(machine).client_url;
        Ok(etcd_client::Client::connect([url], Some(options)).await?)
    }

    /// Makes the log so long, through this machine's member.
    pub async fn write(&self, machine: u8, entries: u32) -> Result<()> {
        let client = self.client(machine).await?;
        let puts = (0..entries).map(|number| {
            let mut client = client.clone();
            async move { client.put(number.to_string(), "", None).await }
        });
        for put in join_all(puts).await {
            put?;
        }
        Ok(())
    }

    fn address(&self, machine: u8) -> String {
        let (second, third) = self.network;
        format!("127.{second}.{third}.{}", machine + 1)
    }

    pub fn peer_url(&self, machine: u8) -> String {
        format!("http://{}:2380", self.address(machine))
    }

    pub fn endpoint(&self, machine: u8) -> MemberEndpoint {
        MemberEndpoint {
            client_url: format!("https://{}:2379", self.address(machine)),
        }
    }

    /// Starts a member on an empty disk among `members`, which include it.
    pub fn start_new(&mut self, machine: u8, members: &[u8], existing: bool) -> Result<()> {
        let host = &mut self.machines[usize::from(machine)];
        host.generations += 1;
        let of = |other: &u8| format!("m{other}={}", self.peer_url(*other));
        let initial: Vec<String> = members.iter().map(of).collect();
        self.start(machine, &initial.join(","), existing)?;
        self.machines[usize::from(machine)].learned = existing;
        Ok(())
    }

    /// Starts the member whose data is there.
    pub fn start_again(&mut self, machine: u8) -> Result<()> {
        ensure!(self.has_data(machine), "no data of m{machine}");
        let itself = format!("m{machine}={}", self.peer_url(machine));
        self.start(machine, &itself, true)
    }

    fn start(&mut self, machine: u8, initial: &str, existing: bool) -> Result<()> {
        self.kill(machine)?;
        let (peer, client) = (self.peer_url(machine), self.endpoint(machine).client_url);
        let file = |name: &str| self.files.join(name).display().to_string();
        let mut command = Command::new(&self.etcd);
        command
            .env("GOMAXPROCS", "1")
            .args([
                HEARTBEAT,
                ELECTION,
                "--log-level=warn",
                "--client-cert-auth",
            ])
            // The kernel keeps what a killed process has written; nothing here outlives the kernel.
            .arg("--unsafe-no-fsync")
            .arg(format!("--name=m{machine}"))
            .arg(format!("--data-dir={}", self.data(machine).display()))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--initial-cluster={initial}"))
            .arg(format!("--initial-cluster-token={}", self.name))
            .arg(format!(
                "--initial-cluster-state={}",
                if existing { "existing" } else { "new" }
            ))
            .arg(format!("--cert-file={}", file("server.crt")))
            .arg(format!("--key-file={}", file("server.key")))
            .arg(format!("--trusted-ca-file={}", file("ca.crt")));
        let name = format!("{}-m{machine}", self.name);
        let process = Process::spawn(&self.state, &name, &command, &Spawn::default())?;
        let host = &mut self.machines[usize::from(machine)];
        host.process = Some(process);
        host.learned = false;
        host.frozen = None;
        host.started = Some(Instant::now());
        host.joined = None;
        Ok(())
    }

    fn data(&self, machine: u8) -> PathBuf {
        self.files.join(format!("data-{machine}"))
    }

    /// It has a log to start again with, which comes into its place whole.
    pub fn has_data(&self, machine: u8) -> bool {
        self.data(machine).join("member/wal").exists()
    }

    /// SIGKILL; nothing if nothing runs.
    pub fn kill(&mut self, machine: u8) -> Result<()> {
        let host = &mut self.machines[usize::from(machine)];
        if let Some(process) = host.process.take() {
            process.kill()?;
            host.frozen = None;
        }
        Ok(())
    }

    /// SIGSTOP: its connections stay.
    pub fn freeze(&mut self, machine: u8) -> Result<()> {
        let host = &mut self.machines[usize::from(machine)];
        let process = host.process.as_ref().context("nothing runs")?;
        process.signal(Signal::STOP)?;
        host.frozen = Some(Instant::now());
        Ok(())
    }

    /// What the disk holds goes.
    pub fn wipe(&mut self, machine: u8) -> Result<()> {
        self.kill(machine)?;
        let data = self.data(machine);
        if data.exists() {
            std::fs::remove_dir_all(data)?;
        }
        Ok(())
    }

    /// A process is there, stopped or not.
    pub fn is_running(&self, machine: u8) -> bool {
        let process = &self.machines[usize::from(machine)].process;
        process.as_ref().is_some_and(Process::is_running)
    }

    pub fn is_frozen(&self, machine: u8) -> bool {
        self.machines[usize::from(machine)].frozen.is_some()
    }

    /// Its process learned of the others from them: its metrics can count one as connected that is
    /// gone, which it does not when it decides.
    pub fn learned(&self, machine: u8) -> bool {
        self.machines[usize::from(machine)].learned
    }

    /// `asker` has started since this one was stopped: they were never connected.
    pub fn never_met(&self, machine: u8, asker: u8) -> bool {
        let started = self.machines[usize::from(asker)].started;
        let frozen = self.machines[usize::from(machine)].frozen;
        frozen.is_some() && started > frozen
    }

    /// All others that can be asked were seen to be connected to it, and it to them.
    pub fn joined(&mut self, machine: u8) {
        let joined = &mut self.machines[usize::from(machine)].joined;
        joined.get_or_insert_with(Instant::now);
    }

    /// Its connections are at least and at most so old.
    pub fn age(&self, machine: u8) -> [Duration; 2] {
        let host = &self.machines[usize::from(machine)];
        let since = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.elapsed());
        let started = since(host.started);
        let joined = host
            .joined
            .map_or(started.saturating_sub(SLOW_START), |at| at.elapsed());
        [joined, started]
    }

    /// The end of its log.
    pub fn log_tail(&self, machine: u8) -> String {
        let process = self.machines[usize::from(machine)].process.as_ref();
        process.map_or_else(String::new, Process::log_tail)
    }

    /// Ends everything and gives the disk space back.
    pub fn end(mut self) -> Result<()> {
        for machine in 0..MACHINES as u8 {
            self.kill(machine)?;
            let log = self.state.log(&format!("{}-m{machine}", self.name));
            if log.exists() {
                std::fs::remove_file(log)?;
            }
        }
        Ok(std::fs::remove_dir_all(&self.files)?)
    }
}

fn credentials(ca_pem: &str, (certificate, key): &(String, String)) -> EtcdCredentials {
    EtcdCredentials {
        ca_pem: ca_pem.to_owned(),
        certificate_pem: certificate.clone(),
        key_pem: Zeroizing::new(key.clone()),
    }
}

/// A CA and the members' certificate as files; the CA and the client's certificate and key.
fn certificates(
    files: &std::path::Path,
    addresses: Vec<String>,
) -> Result<(String, (String, String))> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "etcd-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |sans: Vec<String>| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(sans)?;
        params.distinguished_name.push(DnType::CommonName, "etcd");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = leaf(addresses)?;
    std::fs::write(files.join("ca.crt"), &ca_pem)?;
    std::fs::write(files.join("server.crt"), certificate)?;
    std::fs::write(files.join("server.key"), key)?;
    Ok((ca_pem, leaf(Vec::new())?))
}
