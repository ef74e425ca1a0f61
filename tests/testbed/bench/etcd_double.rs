//! A stand-in for many etcd members: it answers Status, Range and MemberList over gRPC and TLS at
//! every address of the namespace, as whole clusters of three would, and nothing else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const CLIENT_PORT: u16 = 2379;
const VERSION: &str = "3.7.0";
const RAFT_TERM: u64 = 2;
const RAFT_INDEX: u64 = 1_000;

/// Every cluster, and how often its members were asked.
#[derive(Default)]
pub struct Members {
    members: HashMap<Ipv4Addr, Member>,
    asked: AtomicU64,
}

struct Member {
    tls: TlsAcceptor,
    status: Bytes,
    range: Bytes,
    list: Bytes,
}

/// The CA of one cluster, as its Secret holds it.
pub struct ClusterCa {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Members {
    /// Adds cluster `number`: name and address of each member; the first one leads.
    pub fn add(
        &mut self,
        number: u64,
        machines: &[(String, Ipv4Addr)],
        ca: &ClusterCa,
    ) -> Result<()> {
        let tls = TlsAcceptor::from(Arc::new(server_config(machines, ca)?));
        let id = |index: usize| (number + 1) * 16 + index as u64;
        let list: Vec<u8> = (0..machines.len())
            .flat_map(|index| message(2, &listed(id(index), &machines[index])))
            .collect();
        for (index, (_, address)) in machines.iter().enumerate() {
            let header = message(1, &header(number + 1, id(index)));
            let status = [header.clone(), status(id(0))].concat();
            let member = Member {
                tls: tls.clone(),
                status: framed(&status),
                range: framed(&header),
                list: framed(&[header.clone(), list.clone()].concat()),
            };
            self.members.insert(*address, member);
        }
        Ok(())
    }

    /// Statuses that were asked for so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers until it is dropped.
    pub async fn serve(self: Arc<Self>) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT)).await?;
        loop {
            let (connection, _) = listener.accept().await?;
            let members = Arc::clone(&self);
            tokio::spawn(async move {
                // Whoever hangs up was only looking whether somebody listens.
                drop(members.answer(connection).await);
            });
        }
    }

    async fn answer(&self, connection: TcpStream) -> Result<()> {
        let IpAddr::V4(address) = connection.local_addr()?.ip() else {
            return Ok(());
        };
        let member = self.members.get(&address).context("no member here")?;
        let mut connection = h2::server::handshake(member.tls.accept(connection).await?).await?;
        while let Some(request) = connection.accept().await {
            let (request, mut reply) = request?;
            let body = match request.uri().path() {
                "/etcdserverpb.Maintenance/Status" => {
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    Some(&member.status)
                }
                "/etcdserverpb.KV/Range" => Some(&member.range),
                "/etcdserverpb.Cluster/MemberList" => Some(&member.list),
                _ => None,
            };
            let head = Response::builder().header("content-type", "application/grpc");
            let mut stream = reply.send_response(head.body(())?, false)?;
            let mut trailers = HeaderMap::new();
            let ok = HeaderValue::from_static(if body.is_some() { "0" } else { "12" });
            trailers.insert("grpc-status", ok);
            if let Some(body) = body {
                stream.send_data(body.clone(), false)?;
            }
            stream.send_trailers(trailers)?;
        }
        Ok(())
    }
}

fn server_config(machines: &[(String, Ipv4Addr)], ca: &ClusterCa) -> Result<ServerConfig> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate_pem, KeyPair::from_pem(&ca.key_pem)?)?;
    let sans = machines.iter().map(|(_, address)| address.to_string());
    let mut params = CertificateParams::new(sans.collect::<Vec<_>>())?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = CertificateDer::from(params.signed_by(&key, &issuer)?.der().to_vec());
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

// Protocol Buffers by hand: field numbers are those of etcd's rpc.proto.

fn header(cluster: u64, member: u64) -> Vec<u8> {
    [
        varint(1, cluster),
        varint(2, member),
        varint(3, 1),
        varint(4, RAFT_TERM),
    ]
    .concat()
}

/// StatusResponse without its header.
fn status(leader: u64) -> Vec<u8> {
    [
        message(2, VERSION.as_bytes()),
        varint(3, 1 << 20),
        varint(4, leader),
        varint(5, RAFT_INDEX),
        varint(6, RAFT_TERM),
        varint(7, RAFT_INDEX),
    ]
    .concat()
}

/// A Member of MemberListResponse.
fn listed(id: u64, (name, address): &(String, Ipv4Addr)) -> Vec<u8> {
    [
        varint(1, id),
        message(2, name.as_bytes()),
        message(3, format!("https://{address}:2380").as_bytes()),
        message(4, format!("https://{address}:{CLIENT_PORT}").as_bytes()),
    ]
    .concat()
}

fn base128(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn varint(field: u64, value: u64) -> Vec<u8> {
    [base128(field << 3), base128(value)].concat()
}

fn message(field: u64, content: &[u8]) -> Vec<u8> {
    let length = base128(content.len() as u64);
    [base128(field << 3 | 2), length, content.to_vec()].concat()
}

/// A gRPC message: not compressed, then its length.
fn framed(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&[0], length.to_be_bytes().as_slice(), content]
        .concat()
        .into()
}
