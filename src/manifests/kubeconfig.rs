//! Kubeconfigs as client-go writes them (kubeadm `util/kubeconfig`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use zeroize::Zeroizing;

use super::ManifestError;
use crate::pki::KeyPair;
use crate::tokens::Token;
use crate::yaml::{to_yaml, write_yaml};

/// What a kubeconfig with a client certificate is made of.
#[derive(Clone, Copy)]
pub struct Kubeconfig<'a> {
    /// Name of the cluster entry; the context is `<user>@<cluster>`.
    pub cluster: &'a str,
    /// URL of the API server, `https://host:port`.
    pub server: &'a str,
    /// Certificate (or bundle) that the server's certificate is checked against.
    pub ca_pem: &'a str,
    /// Name of the user entry; kubeadm takes the certificate's common name.
    pub user: &'a str,
    pub client: &'a KeyPair,
}

/// A kubeconfig with embedded certificates and key.
pub fn kubeconfig(parts: &Kubeconfig<'_>) -> Result<Zeroizing<String>, ManifestError> {
    let key = Zeroizing::new(STANDARD.encode(parts.client.key_pem.as_bytes()));
    let certificate = STANDARD.encode(&parts.client.certificate_pem);
    let cluster = ClusterEntry::new(parts.cluster, parts.server, parts.ca_pem);
    let user = User::Certificate {
        client_certificate_data: &certificate,
        client_key_data: &key,
    };
    let room = key.len() + certificate.len() + parts.ca_pem.len();
    with_user(cluster, parts.user, user, room)
}

/// The kubeconfig of a kubelet that has no certificate yet: `bootstrap-kubelet.conf` as
/// `kubeadm join` writes it.
pub fn bootstrap_kubeconfig(
    server: &str,
    ca_pem: &str,
    token: &Token,
) -> Result<Zeroizing<String>, ManifestError> {
    // Whatever the cluster is called (kubeadm `DefaultClusterName`).
    let cluster = ClusterEntry::new("kubernetes", server, ca_pem);
    let token = token.reveal();
    let user = User::Token { token: &token };
    with_user(cluster, "tls-bootstrap-token-user", user, ca_pem.len())
}

fn with_user(
    cluster: ClusterEntry<'_>,
    name: &str,
    user: User<'_>,
    content: usize,
) -> Result<Zeroizing<String>, ManifestError> {
    let context = format!("{name}@{}", cluster.name);
    let document = Document {
        api_version: "v1",
        contexts: Some([ContextEntry {
            context: Context {
                cluster: cluster.name,
                user: name,
            },
            name: &context,
        }]),
        clusters: [cluster],
        current_context: &context,
        kind: "Config",
        users: Some([UserEntry { name, user }]),
    };
    // Room for everything at once: growing would leave copies of the key in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(4096 + 2 * content));
    write_yaml(&mut *text, &document)?;
    Ok(text)
}

/// The kubeconfig in ConfigMap `cluster-info`: one nameless cluster, no user.
pub fn cluster_info(server: &str, ca_pem: &str) -> Result<String, ManifestError> {
    let document = Document {
        api_version: "v1",
        clusters: [ClusterEntry::new("", server, ca_pem)],
        contexts: None,
        current_context: "",
        kind: "Config",
        users: None,
    };
    Ok(to_yaml(&document)?)
}

// Fields in the order of their names, which is how client-go writes them.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    clusters: [ClusterEntry<'a>; 1],
    contexts: Option<[ContextEntry<'a>; 1]>,
    #[serde(rename = "current-context")]
    current_context: &'a str,
    kind: &'static str,
    users: Option<[UserEntry<'a>; 1]>,
}

#[derive(Serialize)]
struct ClusterEntry<'a> {
    cluster: Cluster<'a>,
    name: &'a str,
}

#[derive(Serialize)]
struct Cluster<'a> {
    #[serde(rename = "certificate-authority-data")]
    certificate_authority_data: String,
    server: &'a str,
}

impl<'a> ClusterEntry<'a> {
    fn new(name: &'a str, server: &'a str, ca_pem: &str) -> Self {
        let certificate_authority_data = STANDARD.encode(ca_pem);
        Self {
            cluster: Cluster {
                certificate_authority_data,
                server,
            },
            name,
        }
    }
}

#[derive(Serialize)]
struct ContextEntry<'a> {
    context: Context<'a>,
    name: &'a str,
}

#[derive(Serialize)]
struct Context<'a> {
    cluster: &'a str,
    user: &'a str,
}

#[derive(Serialize)]
struct UserEntry<'a> {
    name: &'a str,
    user: User<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum User<'a> {
    Certificate {
        #[serde(rename = "client-certificate-data")]
        client_certificate_data: &'a str,
        #[serde(rename = "client-key-data")]
        client_key_data: &'a str,
    },
    Token {
        token: &'a str,
    },
}
