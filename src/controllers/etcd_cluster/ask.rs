//! One round of questions: to every member, and where one is silent, to its machine and to the
//! members that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpStream;

use crate::controllers::names;
use crate::crd::{Ledger, Machine};
use crate::domain::{HostPort, MemberId};
use crate::etcd::{EtcdApi, MemberEndpoint};
use crate::membership::{MemberView, Snapshot};

/// Longest wait for a machine to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a machine that was silent at the last look.
pub const SILENT_TIMEOUT: Duration = Duration::from_millis(500);
/// Port of every kubelet.
const KUBELET_PORT: u16 = 10_250;

/// Who is to be asked: a member of the ledger, or a founder that may be one.
#[derive(Clone, Debug)]
pub struct Expected {
    pub name: String,
    pub machine: String,
    pub peer_url: String,
}

/// The members of the ledger, in its order.
pub fn members(ledger: &Ledger) -> Vec<Expected> {
    let members = crate::controllers::ledger::members(ledger);
    let expected = members.map(|member| Expected {
        machine: member.slot.machine.clone(),
        name: member.name,
        peer_url: member.peer_url,
    });
    expected.collect()
}

/// Asks all members at once, each under its own deadline.
pub async fn snapshot(etcd: &Arc<dyn EtcdApi>, expected: &[Expected]) -> Snapshot {
    let probes = expected.iter().map(|member| async move {
        let endpoint = endpoint(&member.peer_url);
        MemberView {
            name: member.name.clone(),
            machine: member.machine.clone(),
            peer_url: member.peer_url.clone(),
            answer: etcd
                .probe(&endpoint)
                .await
                .map_err(|error| error.to_string()),
        }
    });
    Snapshot {
        members: join_all(probes).await,
    }
}

/// Where a member with this peer URL takes clients.
pub fn endpoint(peer_url: &str) -> MemberEndpoint {
    MemberEndpoint {
        client_url: names::client_url(peer_url),
    }
}

/// What every member that answers sees of the others: asked only while one does not.
pub async fn active_peers(
    etcd: &Arc<dyn EtcdApi>,
    snapshot: &Snapshot,
) -> BTreeMap<MemberId, BTreeSet<MemberId>> {
    if snapshot.answers().count() == snapshot.members.len() {
        return BTreeMap::new();
    }
    let asked = snapshot.answers().map(|(view, answer)| async move {
        let seen = etcd.active_peers(&endpoint(&view.peer_url)).await;
        // Without an answer this member's view is missing, which speaks for nobody's death.
        seen.ok().map(|peers| (answer.member_id, peers))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Which of these machines answer within `limit`, by name.
pub async fn machines(asked: &[Machine], alone: bool, limit: Duration) -> BTreeMap<String, bool> {
    let answers = asked.iter().map(|machine| async move {
        let answer = answers(machine, alone, limit).await;
        (machine.name.clone(), answer)
    });
    join_all(answers).await.into_iter().collect()
}

/// Whether a machine answers. With a stacked member: its kubelet or API server accepts connections.
/// One of an EtcdCluster `alone` has a kubelet on loopback only, so that a refusal, which comes from the
/// machine itself, has to do.
async fn answers(machine: &Machine, alone: bool, limit: Duration) -> bool {
    let bind_port = machine.bind_port.and_then(|port| u16::try_from(port).ok());
    let ports = [KUBELET_PORT, bind_port.unwrap_or(6443)];
    let tries = ports.map(|port| async move {
        let at = HostPort {
            host: machine.address.clone(),
            port,
        };
        let connect = TcpStream::connect(at.to_string());
        match tokio::time::timeout(limit, connect).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => alone && error.kind() == ErrorKind::ConnectionRefused,
            Err(_) => false,
        }
    });
    join_all(tries).await.contains(&true)
}
