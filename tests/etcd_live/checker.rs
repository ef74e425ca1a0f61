//! Clients that write and read throughout a scenario: a linearizable register, and the lists of all
//! members.
//!
//! One writer makes write `n` by a transaction that succeeds only on top of the newest write it
//! knows of, so a write whose answer was lost happens once or not at all, and the writer finds out.
//! Each write also leaves a key of its own; every one that was acknowledged has to be there at the
//! end and after each change of leaders, at the revision that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, TlsOptions, Txn,
    TxnOp, TxnOpResponse,
};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::sight::{Listed, Said, Sight};
use crate::testbed::netns;

const CALL: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_millis(800);
const REGISTER: &str = "register";
const WRITES: &str = "writes/";

/// What a client shows and trusts.
#[derive(Clone)]
pub struct Credentials {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Credentials {
    /// Those of the API server on a machine.
    pub fn of(host: &Host) -> Result<Self> {
        let pki = host.file("etc/kubernetes/pki");
        let read = |file: &str| {
            let path: &Path = &pki.join(file);
            std::fs::read(path).with_context(|| path.display().to_string())
        };
        Ok(Self {
            ca: read("etcd/ca.crt")?,
            certificate: read("apiserver-etcd-client.crt")?,
            key: read("apiserver-etcd-client.key")?,
        })
    }

    /// A client of one member.
    pub async fn client(&self, member: Ipv4Addr) -> Result<Client> {
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(CALL)
            .with_timeout(CALL);
        Ok(Client::connect([format!("https://{member}:2379")], Some(options)).await?)
    }
}

/// Running clients of one cluster; they end when this is dropped.
pub struct Checker {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checker {
    /// Begins to write and to look, from a network namespace of clients.
    pub fn start(netns: &str, credentials: &Credentials, sight: &Sight) -> Self {
        let stop = CancellationToken::new();
        let (name, until) = (netns.to_owned(), stop.clone());
        let (credentials, sight) = (credentials.clone(), sight.clone());
        let thread = std::thread::spawn(move || {
            let ended = netns::inside(&name, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(until.run_until_cancelled(async {
                    tokio::join!(write(&credentials, &sight), look(&credentials, &sight))
                }));
                Ok(())
            });
            if let Err(error) = ended {
                sight
                    .lock()
                    .violations
                    .push(format!("the checker ended: {error:#}"));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// A client a member. One that failed is not kept: if its machine loses power in the middle of a TLS
/// handshake, it waits for the rest of it for ever.
struct Clients<'a> {
    credentials: &'a Credentials,
    open: BTreeMap<Ipv4Addr, Client>,
}

impl<'a> Clients<'a> {
    fn new(credentials: &'a Credentials) -> Self {
        Self {
            credentials,
            open: BTreeMap::new(),
        }
    }

    async fn get(&mut self, member: Ipv4Addr) -> Result<Client> {
        if let Some(client) = self.open.get(&member) {
            return Ok(client.clone());
        }
        let client = self.credentials.client(member).await?;
        self.open.insert(member, client.clone());
        Ok(client)
    }
}

/// What became of one try to write.
enum Tried {
    Written(i64),
    /// Somebody's write is newer: its number and revision.
    Newer(u64, i64),
}

async fn write(credentials: &Credentials, sight: &Sight) {
    let mut clients = Clients::new(credentials);
    let (mut known, mut preferred) = (0, 0);
    let mut number = 0;
    loop {
        number += 1;
        loop {
            let (members, payload) = {
                let seen = sight.lock();
                let members: Vec<Ipv4Addr> = seen.endpoints.iter().copied().collect();
                (members, seen.payload)
            };
            if members.is_empty() {
                tokio::time::sleep(ROUND).await;
                continue;
            }
            let member = members[preferred % members.len()];
            let tried = tokio::time::timeout(CALL, async {
                let mut client = clients.get(member).await?;
                try_write(&mut client, number, known, payload).await
            });
            match tried.await {
                Ok(Ok(Tried::Written(revision))) => {
                    known = revision;
                    sight.lock().acknowledge(number, revision);
                    break;
                }
                // An earlier try of this very write, whose answer was lost.
                Ok(Ok(Tried::Newer(found, revision))) if found == number && revision > known => {
                    known = revision;
                    sight.lock().acknowledge(number, revision);
                    break;
                }
                Ok(Ok(Tried::Newer(found, revision))) => {
                    sight.lock().lost(format!(
                        "write {number} found write {found} of revision {revision} where {known} was acknowledged"
                    ));
                    known = revision;
                }
                Ok(Err(_)) | Err(_) => {
                    clients.open.remove(&member);
                    preferred += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        let pause = sight.lock().pause;
        tokio::time::sleep(pause).await;
    }
}

async fn try_write(client: &mut Client, number: u64, known: i64, payload: usize) -> Result<Tried> {
    let value = number.to_string();
    let mut own = format!("{number} ");
    own.extend(std::iter::repeat_n('x', payload));
    let transaction = Txn::new()
        .when([Compare::mod_revision(REGISTER, CompareOp::Equal, known)])
        .and_then([
            TxnOp::put(REGISTER, value, None),
            TxnOp::put(format!("{WRITES}{number:010}"), own, None),
        ])
        .or_else([TxnOp::get(REGISTER, None)]);
    let answer = client.txn(transaction).await?;
    if answer.succeeded() {
        return Ok(Tried::Written(
            answer.header().context("no header")?.revision(),
        ));
    }
    let found = answer.op_responses().into_iter().find_map(|op| match op {
        TxnOpResponse::Get(get) => get.kvs().first().map(|kv| {
            (
                kv.value_str().unwrap_or("0").parse().unwrap_or(0),
                kv.mod_revision(),
            )
        }),
        _ => None,
    });
    let (found, revision) = found.unwrap_or((0, 0));
    Ok(Tried::Newer(found, revision))
}

async fn look(credentials: &Credentials, sight: &Sight) {
    let clients = tokio::sync::Mutex::new(Clients::new(credentials));
    loop {
        let began = Instant::now();
        let (members, newest) = {
            let seen = sight.lock();
            (seen.endpoints.clone(), seen.newest())
        };
        let answers = members
            .into_iter()
            .map(|member| ask(credentials, &clients, sight, member, newest));
        let said = join_all(answers).await.into_iter().flatten().collect();
        let new_leader = sight.lock().take_in(began, said);
        if new_leader {
            let members: Vec<Ipv4Addr> = sight.lock().endpoints.iter().copied().collect();
            for member in members {
                let check =
                    tokio::time::timeout(10 * CALL, all_there(credentials, sight, member, true));
                if let Ok(Ok(())) = check.await {
                    break;
                }
            }
        }
        tokio::time::sleep(ROUND.saturating_sub(began.elapsed())).await;
    }
}

async fn ask(
    credentials: &Credentials,
    clients: &tokio::sync::Mutex<Clients<'_>>,
    sight: &Sight,
    member: Ipv4Addr,
    newest: i64,
) -> Option<(Ipv4Addr, Said)> {
    let answer = tokio::time::timeout(2 * CALL, async {
        // Not under the lock: a member that takes connections and never answers would keep the
        // others from being asked in time.
        let open = clients.lock().await.open.get(&member).cloned();
        let mut client = match open {
            Some(client) => client,
            None => {
                let client = credentials.client(member).await?;
                clients.lock().await.open.insert(member, client.clone());
                client
            }
        };
        said(&mut client, sight, newest).await
    });
    match answer.await {
        Ok(Ok(said)) => Some((member, said)),
        Ok(Err(_)) | Err(_) => {
            clients.lock().await.open.remove(&member);
            None
        }
    }
}

async fn said(client: &mut Client, sight: &Sight, newest: i64) -> Result<Said> {
    let status = client.status().await?;
    let header = status.header().context("no header")?;
    let (cluster_id, member_id) = (header.cluster_id(), header.member_id());
    let list = if status.is_learner() {
        None
    } else {
        linearizable(client, sight, newest).await.ok()
    };
    Ok(Said {
        cluster_id,
        member_id,
        leader: status.leader(),
        index: status.raft_index(),
        learner: status.is_learner(),
        list,
    })
}

async fn linearizable(client: &mut Client, sight: &Sight, newest: i64) -> Result<Vec<Listed>> {
    let read = client.get(REGISTER, None).await?;
    let revision = read
        .kvs()
        .first()
        .map_or(0, etcd_client::KeyValue::mod_revision);
    if revision < newest {
        sight.lock().lost(format!(
            "a read that began after revision {newest} was acknowledged returned revision {revision}"
        ));
    }
    members(client).await
}

/// The list of members as this one has it.
async fn members(client: &mut Client) -> Result<Vec<Listed>> {
    let list = client.member_list().await?;
    let mut list: Vec<Listed> = list
        .members()
        .iter()
        .map(|member| Listed {
            id: member.id(),
            name: member.name().to_owned(),
            peer_url: member.peer_urls().join(","),
            learner: member.is_learner(),
            started: !(member.name().is_empty() && member.client_urls().is_empty()),
        })
        .collect();
    list.sort();
    Ok(list)
}

/// Waits, from a client's place on the network, until one member has a list like that; looks often
/// enough to see a change long before its reply has arrived, when replies are held back.
pub fn wait_for_list(
    netns: &str,
    credentials: &Credentials,
    at: &BTreeSet<Ipv4Addr>,
    limit: Duration,
    seen: impl Fn(&[Listed]) -> bool + Send,
) -> Result<()> {
    netns::inside(netns, move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut clients = Clients::new(credentials);
            let began = Instant::now();
            while began.elapsed() < limit {
                for member in at {
                    let mut client = clients.get(*member).await?;
                    if members(&mut client).await.is_ok_and(|list| seen(&list)) {
                        return Ok(());
                    }
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            bail!("no such list after {limit:?}")
        })
    })
}

/// Every write that was acknowledged so far is there, as this member reads it; `quorum`: behind a
/// linearizable read, else from what this member has itself.
pub async fn all_there(
    credentials: &Credentials,
    sight: &Sight,
    member: Ipv4Addr,
    quorum: bool,
) -> Result<()> {
    let acknowledged = sight.lock().acknowledged.clone();
    let mut client = credentials.client(member).await?;
    let mut options = GetOptions::new().with_prefix().with_keys_only();
    if !quorum {
        options = options.with_serializable();
    }
    let answer = client.get(WRITES, Some(options)).await?;
    let mut found = BTreeMap::new();
    for kv in answer.kvs() {
        let number = kv.key_str()?.trim_start_matches(WRITES).parse::<u64>()?;
        found.insert(number, kv.mod_revision());
    }
    for (number, revision) in &acknowledged {
        if found.get(number) != Some(revision) {
            sight.lock().lost(format!(
                "write {number} was acknowledged at revision {revision}; {member} has {:?}",
                found.get(number)
            ));
            bail!("write {number} is lost");
        }
    }
    Ok(())
}

/// Makes one call to a member as an administrator would, from here.
pub async fn with_client<T>(
    credentials: &Credentials,
    members: &BTreeSet<Ipv4Addr>,
    call: impl AsyncFn(&mut Client) -> Result<T>,
) -> Result<T> {
    ensure!(!members.is_empty(), "nobody to ask");
    let mut last = None;
    for member in members {
        let mut client = credentials.client(*member).await?;
        match tokio::time::timeout(5 * CALL, call(&mut client)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(anyhow::anyhow!("no answer")),
        }
    }
    Err(last.context("nobody was asked")?)
}
