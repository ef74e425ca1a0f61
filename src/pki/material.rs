//! Stored certificates and keys. None of these types shows a key through `Debug`.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// A certificate (or bundle, own certificate first) with its private key, both PEM.
#[derive(Clone)]
pub struct KeyPair {
    pub certificate_pem: String,
    /// PKCS#1 for RSA and SEC1 for ECDSA, as kubeadm writes them.
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

/// What all machines of a control plane share.
#[derive(Clone)]
pub struct ClusterPki {
    pub ca: KeyPair,
    pub etcd_ca: KeyPair,
    pub front_proxy_ca: KeyPair,
    pub service_account: ServiceAccountKeys,
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
