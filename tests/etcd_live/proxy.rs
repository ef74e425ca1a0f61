//! TCP proxies: one on a machine, between the operator and etcd's client port, that can hold replies
//! back and lose them; one in front of the seed's API server that makes watches late. What passes is
//! encrypted end to end, so they know nothing of what is said.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::testbed::netns;

const PORT: u16 = 12379;
const BUFFER: usize = 64 * 1024;

/// A running proxy for connections from one address; ends when dropped.
pub struct Proxy {
    control: Arc<Control>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Control {
    delay_ms: AtomicU64,
    lose: AtomicBool,
}

impl Proxy {
    /// Stands between `client` and the etcd of `host`, and lets everything through.
    pub fn start(host: &Host, client: Ipv4Addr) -> Result<Self> {
        let (control, stop) = (Arc::<Control>::default(), CancellationToken::new());
        let etcd = SocketAddr::from((host.address(), 2379));
        let (netns, shared, until) = (host.netns(), Arc::clone(&control), stop.clone());
        let (up, standing) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let ended = netns::inside(&netns, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
                    up.send(())?;
                    let serving = serve(listener, etcd, shared);
                    until.run_until_cancelled(serving).await.unwrap_or(Ok(()))
                })
            });
            if let Err(error) = ended {
                crate::testbed::progress::say(&format!("a proxy ended: {error:#}"));
            }
        });
        standing.recv()?;
        host.redirect(client, PORT)?;
        Ok(Self {
            control,
            stop,
            thread: Some(thread),
        })
    }

    /// Holds every reply back for so long.
    pub fn delay(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.control.delay_ms.store(millis, Ordering::SeqCst);
    }

    /// From now on (or no longer) replies are lost, also those held back, and their connections end.
    pub fn lose(&self, lose: bool) {
        self.control.lose.store(lose, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// A proxy in front of an API server that holds back what comes unasked: events of watches. A reply
/// follows its request; what comes after both sides were quiet for [`QUIET`] was not asked for.
/// kube-rs speaks HTTP/1.1, so a watch has its connection for itself.
pub struct Late {
    address: SocketAddr,
    held: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// Longer than any reply takes.
const QUIET: Duration = Duration::from_secs(2);

impl Late {
    /// Listens in the network namespace of this thread.
    pub async fn start(server: SocketAddr, by: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, held) = (listener.local_addr()?, Arc::<AtomicU64>::default());
        let count = Arc::clone(&held);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    // An error of either side ends the connection, as it should.
                    let _ = late(client, server, by, &count).await;
                });
            }
        });
        Ok(Self {
            address,
            held,
            task,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many pieces were held back so far.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn late(client: TcpStream, server: SocketAddr, by: Duration, held: &AtomicU64) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let last = std::sync::Mutex::new(Instant::now());
    let touch = || {
        let mut last = last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *last, Instant::now()).elapsed()
    };
    let (queue, mut queued) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let there = async {
        let mut bytes = vec![0; BUFFER];
        loop {
            let count = from_client.read(&mut bytes).await?;
            if count == 0 {
                return anyhow::Ok(());
            }
            touch();
            to_server.write_all(&bytes[..count]).await?;
        }
    };
    let back = async {
        let mut bytes = vec![0; BUFFER];
        loop {
            let count = from_server.read(&mut bytes).await?;
            if count == 0 {
                return anyhow::Ok(());
            }
            let unasked = touch() > QUIET;
            held.fetch_add(u64::from(unasked), Ordering::SeqCst);
            let wait = if unasked { by } else { Duration::ZERO };
            queue.send((Instant::now() + wait, bytes[..count].to_vec()))?;
        }
    };
    let deliver = async {
        while let Some((at, bytes)) = queued.recv().await {
            tokio::time::sleep_until(at.into()).await;
            to_client.write_all(&bytes).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
        ended = deliver => ended,
    }
}

async fn serve(listener: TcpListener, etcd: SocketAddr, control: Arc<Control>) -> Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            // An error of either side ends the connection, as it should.
            let _ = forward(client, etcd, &control).await;
        });
    }
}

async fn forward(client: TcpStream, etcd: SocketAddr, control: &Control) -> Result<()> {
    let server = TcpStream::connect(etcd).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        anyhow::Ok(())
    };
    let back = async {
        let mut bytes = vec![0; BUFFER];
        loop {
            let count = from_server.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(
                control.delay_ms.load(Ordering::SeqCst),
            ))
            .await;
            if control.lose.load(Ordering::SeqCst) {
                anyhow::bail!("lost");
            }
            to_client.write_all(&bytes[..count]).await?;
        }
    };
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}
