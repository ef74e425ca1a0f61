//! The real client: one connection a member, kept while its credentials are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, MemberAddOptions, TlsOptions,
};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::api::{Asked, EtcdApi, MemberEndpoint};
use super::error::EtcdError;
use super::metrics;
use super::snapshot::{Verified, Verifier};
use crate::domain::{ClusterId, MemberId};
use crate::membership::{Answer, ListedMember};

/// Longest wait for a TCP connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a member that was silent at the last try: it is asked again and again, and everything
/// else waits for the answer.
const SILENT_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for one call; a change of membership may take all of it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a whole probe, so that one silent member never delays the verdict on others.
const PROBE_TIMEOUT: Duration = Duration::from_secs(6);
/// A member whose linearizable read takes longer is not healthy (etcd-membership A.2).
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the next part of a snapshot.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);
/// Longest wait for a whole snapshot; a reconcile takes no longer than a minute.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(40);

/// What authenticates the operator to the members of one cluster.
#[derive(Clone)]
pub struct EtcdCredentials {
    /// CA that signed the members' server certificates, PEM.
    pub ca_pem: String,
    /// Client certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: Zeroizing<String>,
}

/// The clients of one cluster's members.
pub struct EtcdClients {
    credentials: EtcdCredentials,
    clients: Mutex<HashMap<MemberEndpoint, Client>>,
    /// Members whose address gave no sign at the last try.
    silent: Mutex<HashSet<MemberEndpoint>>,
}

impl EtcdClients {
    /// Clients under these credentials; nothing is dialled yet.
    pub fn new(credentials: EtcdCredentials) -> Self {
        Self {
            credentials,
            clients: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    async fn client(&self, member: &MemberEndpoint) -> Result<Client, EtcdError> {
        let existing = self.lock().get(member).cloned();
        if let Some(client) = existing {
            return Ok(client);
        }
        self.knock(member).await?;
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&self.credentials.ca_pem))
            .identity(Identity::from_pem(
                &self.credentials.certificate_pem,
                self.credentials.key_pem.as_str(),
            ));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(CALL_TIMEOUT);
        let client = Client::connect([&member.client_url], Some(options))
            .await
            .map_err(|error| EtcdError::call(&member.client_url, &error))?;
        self.lock().insert(member.clone(), client.clone());
        Ok(client)
    }

    /// Whether anything listens there; whoever was silent is not waited for as long.
    async fn knock(&self, member: &MemberEndpoint) -> Result<(), EtcdError> {
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = if silent().contains(member) {
            SILENT_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        };
        let answer = answers(member, limit).await;
        if matches!(answer, Err(EtcdError::Silent { .. })) {
            silent().insert(member.clone());
        } else {
            silent().remove(member);
        }
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MemberEndpoint, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, member: &MemberEndpoint) -> Result<Answer, EtcdError> {
        let mut client = self.client(member).await?;
        let failed = |error: &etcd_client::Error| EtcdError::call(&member.client_url, error);
        let missing = |what| EtcdError::Incomplete {
            endpoint: member.client_url.clone(),
            what,
        };
        let status = client.status().await.map_err(|error| failed(&error))?;
        let header = status.header().ok_or_else(|| missing("a header"))?;
        let members = if status.is_learner() {
            serializable_read(&mut client)
                .await
                .map_err(|error| failed(&error))?;
            Err("a learner has no list of members".to_owned())
        } else {
            linearizable_members(&mut client, MemberId(header.member_id())).await
        };
        Ok(Answer {
            cluster_id: ClusterId(header.cluster_id()),
            member_id: MemberId(header.member_id()),
            leader: (status.leader() != 0).then(|| MemberId(status.leader())),
            raft_term: status.raft_term(),
            raft_index: status.raft_index(),
            raft_applied_index: status.raft_applied_index(),
            db_size_bytes: status.db_size(),
            version: status.version().to_owned(),
            is_learner: status.is_learner(),
            errors: status.errors().to_vec(),
            members,
        })
    }
}

/// The one read that a learner serves; its deadline is that of the whole probe.
async fn serializable_read(client: &mut Client) -> Result<(), etcd_client::Error> {
    let options = GetOptions::new()
        .with_keys_only()
        .with_limit(1)
        .with_serializable();
    client
        .get("seedbed.dev/probe", Some(options))
        .await
        .map(drop)
}

/// The list of members behind a linearizable read on the same connection: `MemberList` of this
/// client is a local read, which a partitioned member answers from its past (E11).
async fn linearizable_members(
    client: &mut Client,
    member: MemberId,
) -> Result<Vec<ListedMember>, String> {
    let read = client.get(
        "seedbed.dev/probe",
        Some(GetOptions::new().with_keys_only().with_limit(1)),
    );
    let read = tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .map_err(|_| format!("no answer within {} s", READ_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let list = client
        .member_list()
        .await
        .map_err(|error| error.to_string())?;
    let same = |header: Option<&etcd_client::ResponseHeader>| {
        header.is_some_and(|header| header.member_id() == member.0)
    };
    if !same(read.header()) || !same(list.header()) {
        return Err("another member answered on this connection".to_owned());
    }
    let mut members: Vec<ListedMember> = list
        .members()
        .iter()
        .map(|listed| ListedMember {
            id: MemberId(listed.id()),
            name: listed.name().to_owned(),
            peer_urls: listed.peer_urls().to_vec(),
            client_urls: listed.client_urls().to_vec(),
            is_learner: listed.is_learner(),
        })
        .collect();
    members.sort();
    Ok(members)
}

/// Whether anything listens. Cheaper than a client, and tells "nobody there" from "does not answer".
async fn answers(member: &MemberEndpoint, limit: Duration) -> Result<(), EtcdError> {
    let address = member
        .client_url
        .strip_prefix("https://")
        .ok_or_else(|| EtcdError::Address(member.client_url.clone()))?;
    let endpoint = member.client_url.clone();
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => match source.kind() {
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
                Err(EtcdError::Silent { endpoint })
            }
            _ => Err(EtcdError::Unreachable { endpoint, source }),
        },
        Err(_) => Err(EtcdError::Silent { endpoint }),
    }
}

fn timeout(member: &MemberEndpoint, after: Duration) -> EtcdError {
    EtcdError::Timeout {
        endpoint: member.client_url.clone(),
        seconds: after.as_secs(),
    }
}

impl EtcdClients {
    /// Makes one call under its deadline. A client that failed is not worth keeping: the next call
    /// looks who is there.
    async fn within<T>(
        &self,
        member: &MemberEndpoint,
        deadline: Duration,
        call: impl Future<Output = Result<T, EtcdError>>,
    ) -> Result<T, EtcdError> {
        let answer = tokio::time::timeout(deadline, call)
            .await
            .unwrap_or_else(|_| Err(timeout(member, deadline)));
        if answer.is_err() {
            self.lock().remove(member);
        }
        answer
    }

    /// Makes one change through one member, once.
    async fn change<T>(
        &self,
        member: &MemberEndpoint,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, etcd_client::Error>,
    ) -> Result<(), EtcdError> {
        let mut client = self.client(member).await?;
        let done = self.within(member, CALL_TIMEOUT, async {
            call(&mut client)
                .await
                .map_err(|error| EtcdError::call(&member.client_url, &error))
        });
        done.await.map(drop)
    }

    async fn stream(&self, member: &MemberEndpoint) -> Result<Verified, EtcdError> {
        let mut client = self.client(member).await?;
        let failed = |error: etcd_client::Error| EtcdError::call(&member.client_url, &error);
        let mut stream = client.snapshot().await.map_err(failed)?;
        let mut verifier = Verifier::default();
        loop {
            let part = tokio::time::timeout(SNAPSHOT_IDLE, stream.message())
                .await
                .map_err(|_| timeout(member, SNAPSHOT_IDLE))?;
            let Some(part) = part.map_err(failed)? else {
                break;
            };
            verifier.update(part.blob());
        }
        verifier.finish().map_err(|fault| EtcdError::Snapshot {
            endpoint: member.client_url.clone(),
            fault,
        })
    }
}

impl EtcdApi for EtcdClients {
    fn probe<'a>(&'a self, member: &'a MemberEndpoint) -> Asked<'a, Answer> {
        Box::pin(self.within(member, PROBE_TIMEOUT, self.ask(member)))
    }

    fn active_peers<'a>(&'a self, member: &'a MemberEndpoint) -> Asked<'a, BTreeSet<MemberId>> {
        Box::pin(metrics::active_peers(&member.client_url, &self.credentials))
    }

    fn add_learner<'a>(&'a self, through: &'a MemberEndpoint, peer_url: &'a str) -> Asked<'a, ()> {
        Box::pin(self.change(through, async move |client| {
            let as_learner = MemberAddOptions::new().with_is_learner();
            client.member_add([peer_url], Some(as_learner)).await
        }))
    }

    fn promote<'a>(&'a self, leader: &'a MemberEndpoint, id: MemberId) -> Asked<'a, ()> {
        Box::pin(self.change(leader, async move |client| {
            client.member_promote(id.0).await
        }))
    }

    fn remove<'a>(&'a self, through: &'a MemberEndpoint, id: MemberId) -> Asked<'a, ()> {
        Box::pin(self.change(through, async move |client| {
            client.member_remove(id.0).await
        }))
    }

    fn move_leader<'a>(&'a self, leader: &'a MemberEndpoint, to: MemberId) -> Asked<'a, ()> {
        Box::pin(self.change(leader, async move |client| client.move_leader(to.0).await))
    }

    fn verified_snapshot<'a>(&'a self, member: &'a MemberEndpoint) -> Asked<'a, Verified> {
        Box::pin(self.within(member, SNAPSHOT_TIMEOUT, self.stream(member)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream as BlockingStream};

    use tokio::net::TcpSocket;
    use tokio::time::Instant;

    use super::*;

    /// A listener that takes one connection, which is there, so that every further one gets no
    /// answer, as from a machine that is switched off.
    fn deaf() -> (tokio::net::TcpListener, Vec<BlockingStream>, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(200);
        let mut waiting = Vec::new();
        while let Ok(connection) = BlockingStream::connect_timeout(&address, wait) {
            waiting.push(connection);
            assert!(waiting.len() < 64, "connections are still taken");
        }
        (listener, waiting, address)
    }

    /// Virtual time: it goes on to the next deadline whenever nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn who_was_silent_is_not_waited_for_as_long() {
        let (listener, waiting, address) = deaf();
        let clients = EtcdClients::new(EtcdCredentials {
            ca_pem: String::new(),
            certificate_pem: String::new(),
            key_pem: Zeroizing::default(),
        });
        let member = MemberEndpoint {
            client_url: format!("https://{address}"),
        };
        let knock = async || {
            let began = Instant::now();
            let answer = clients.knock(&member).await;
            (answer.map_err(|error| error.to_string()), began.elapsed())
        };
        let about = |took: Duration, limit: Duration| {
            assert!(
                took >= limit && took < limit + Duration::from_millis(50),
                "{took:?}"
            );
        };
        let (answer, took) = knock().await;
        assert!(answer.is_err());
        about(took, CONNECT_TIMEOUT);
        let (answer, took) = knock().await;
        assert!(answer.is_err());
        about(took, SILENT_TIMEOUT);

        // It refuses: somebody is there, and may be slow again.
        drop((listener, waiting));
        assert!(knock().await.0.is_err());
        assert!(!clients.silent.lock().unwrap().contains(&member));
    }
}
