//! Stored certificates and keys. None of these types shows a key through `Debug`.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// A certificate (or bundle, own certificate first) with its private key, both PEM.
#[derive(Clone)]
pub struct KeyPair {
    pub certificate_pem: String,
    /// PKCS#1 for RSA and SEC1 for ECDSA, as kubeadm writes them. A CA that the user brought stays
    /// as it came, which may be PKCS#8.
    pub key_pem: Zeroizing<String>,
}

/// The keys that sign and verify service-account tokens, PEM.
#[derive(Clone)]
pub struct ServiceAccountKeys {
    pub public_pem: String,
    pub private_pem: Zeroizing<String>,
}

/// The three certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ca {
    /// `ca`: signs the API server, kubelets and kubeconfigs.
    Cluster,
    /// `etcd/ca`.
    Etcd,
    /// `front-proxy-ca`.
    FrontProxy,
}

impl Ca {
    /// Every CA.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Etcd, Self::FrontProxy];

    /// Common name of the subject, and the only DNS name of the certificate.
    pub fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// The leaf certificates of one machine: seven files and five kubeconfig identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaf {
    ApiServer,
    ApiServerKubeletClient,
    ApiServerEtcdClient,
    FrontProxyClient,
    EtcdServer,
    EtcdPeer,
    EtcdHealthcheckClient,
    AdminKubeconfig,
    SuperAdminKubeconfig,
    ControllerManagerKubeconfig,
    SchedulerKubeconfig,
    KubeletKubeconfig,
}

impl Leaf {
    /// Every leaf, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::ApiServer,
        Self::ApiServerKubeletClient,
        Self::ApiServerEtcdClient,
        Self::FrontProxyClient,
        Self::EtcdServer,
        Self::EtcdPeer,
        Self::EtcdHealthcheckClient,
        Self::AdminKubeconfig,
        Self::SuperAdminKubeconfig,
        Self::ControllerManagerKubeconfig,
        Self::SchedulerKubeconfig,
        Self::KubeletKubeconfig,
    ];

    /// Short name: `<name>.crt` and `<name>.key` are its keys in the Secret of a machine's
    /// certificates.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::ApiServerKubeletClient => "apiserver-kubelet-client",
            Self::ApiServerEtcdClient => "apiserver-etcd-client",
            Self::FrontProxyClient => "front-proxy-client",
            Self::EtcdServer => "etcd-server",
            Self::EtcdPeer => "etcd-peer",
            Self::EtcdHealthcheckClient => "etcd-healthcheck-client",
            Self::AdminKubeconfig => "admin",
            Self::SuperAdminKubeconfig => "super-admin",
            Self::ControllerManagerKubeconfig => "controller-manager",
            Self::SchedulerKubeconfig => "scheduler",
            Self::KubeletKubeconfig => "kubelet",
        }
    }
}

/// What all machines of a control plane share.
#[derive(Clone)]
pub struct ClusterPki {
    pub ca: KeyPair,
    /// Of its own members or of the EtcdCluster that it refers to; `None` for an etcd that Seedbed
    /// does not manage.
    pub etcd_ca: Option<KeyPair>,
    pub front_proxy_ca: KeyPair,
    pub service_account: ServiceAccountKeys,
}

impl ClusterPki {
    /// The pair of one CA, if there is such a one.
    pub fn ca(&self, ca: Ca) -> Option<&KeyPair> {
        match ca {
            Ca::Cluster => Some(&self.ca),
            Ca::Etcd => self.etcd_ca.as_ref(),
            Ca::FrontProxy => Some(&self.front_proxy_ca),
        }
    }
}

/// What one machine has of its own. Which leaves exist depends on profile and machine.
pub type MachinePki = BTreeMap<Leaf, KeyPair>;

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

impl fmt::Debug for ServiceAccountKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccountKeys(..)")
    }
}

impl fmt::Debug for ClusterPki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterPki(..)")
    }
}
