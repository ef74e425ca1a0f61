//! Keys and certificates of the seed cluster, and kubeconfigs made of them.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

/// The user name of a person with every right, and its group.
const ADMIN: (&str, &str) = ("seed-admin", "system:masters");
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Where the files are.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn in_dir(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(super) fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    pub(super) fn serving(&self) -> (PathBuf, PathBuf) {
        (
            self.dir.join("apiserver.crt"),
            self.dir.join("apiserver.key"),
        )
    }

    /// The public and the private key of service account tokens.
    pub(super) fn service_account_keys(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("sa.pub"), self.dir.join("sa.key"))
    }

    pub(super) fn admin_kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    pub(super) fn controller_manager_kubeconfig(&self) -> PathBuf {
        self.dir.join("controller-manager.kubeconfig")
    }

    /// Makes everything anew for an API server at `server`, which listens on `listen`.
    pub(super) fn create(&self, listen: IpAddr, server: &str) -> Result<()> {
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot create {}", self.dir.display()))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "seed-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let ca_pem = params.self_signed(&key)?.pem();
        write_private(&self.ca(), &ca_pem)?;
        write_private(&self.ca_key(), &key.serialize_pem())?;
        let ca = Issuer::new(params, key);

        let (certificate, key) = self.serving();
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default.svc",
            "127.0.0.1",
        ];
        let mut sans: Vec<String> = names.map(str::to_owned).to_vec();
        sans.push(listen.to_string());
        let mut serving = CertificateParams::new(sans)?;
        serving
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let serving_key = KeyPair::generate()?;
        write_private(&certificate, &serving.signed_by(&serving_key, &ca)?.pem())?;
        write_private(&key, &serving_key.serialize_pem())?;

        let (public, private) = self.service_account_keys();
        let signing = KeyPair::generate()?;
        write_private(&public, &signing.public_key_pem())?;
        write_private(&private, &signing.serialize_pem())?;
        let (name, group) = ADMIN;
        let admin = client_identity(&ca, name, Some(group))?;
        write_kubeconfig(&self.admin_kubeconfig(), server, &ca_pem, &admin)?;
        let controller_manager = client_identity(&ca, CONTROLLER_MANAGER, None)?;
        let file = self.controller_manager_kubeconfig();
        write_kubeconfig(&file, server, &ca_pem, &controller_manager)
    }
}

fn client_identity(ca: &Issuer<'_, KeyPair>, name: &str, group: Option<&str>) -> Result<Value> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, ca)?.pem();
    Ok(json!({
        "client-certificate-data": STANDARD.encode(certificate),
        "client-key-data": STANDARD.encode(key.serialize_pem()),
    }))
}

/// Writes a kubeconfig for `server` with the credentials `user` (fields of a kubeconfig user).
pub(super) fn write_kubeconfig(
    file: &Path,
    server: &str,
    ca_pem: &str,
    user: &Value,
) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "seed", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": "seed", "user": user}],
        "contexts": [{"name": "seed", "context": {"cluster": "seed", "user": "seed"}}],
        "current-context": "seed",
    });
    write_private(file, &serde_saphyr::to_string(&config)?)
}

pub(super) fn write_private(file: &Path, text: &str) -> Result<()> {
    use std::io::Write;

    let mut opened = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    opened
        .write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}
