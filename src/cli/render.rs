//! `seedbed render`: what the operator would publish, written into a folder. No cluster needed.
//!
//! It goes through the same functions as the operator; here are only the edges: reading the
//! manifest (`manifest`), keeping the PKI in a folder (`pki_folder`), writing the output (`output`).

mod manifest;
mod output;
mod pki_folder;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::controllers::control_plane::resolve::{Problem, references, resolve};
use crate::domain::{ControlPlane, EtcdCredentials};
use crate::machine_config::{MachineConfigError, machine_config, machine_contents};
use crate::runtime::clock::Clock;
use clap::Args;

use output::{Output, RenderedMachine};
use pki_folder::{Pki, PkiFolder};

/// Write the files and the user data of every machine of a ControlPlane, without any cluster.
///
/// OUTPUT/MACHINE/ holds the machine's files, each at its path on the node and with its mode;
/// OUTPUT/MACHINE.user-data is what the machine boots from. With the same certificates and founding,
/// the bytes are those that the operator publishes.
///
/// Certificates and keys are kept in the folder given by --pki: what is missing is created there,
/// what is there is used, so a second run gives the same bytes. Its layout is that of the Secrets:
/// NAME-ca, NAME-etcd and NAME-proxy with tls.crt and tls.key, NAME-sa with the service-account keys,
/// NAME-MACHINE-certs, and NAME-kubeconfig with the administrators' kubeconfig in "value". To bring
/// CAs of your own, put them there beforehand. NAME-founding.json names the founders of the etcd
/// cluster and its token; once it exists, CAs are never made anew.
///
/// Everything written holds private keys: folders are made with mode 0700.
#[derive(Args)]
pub(super) struct Render {
    /// Manifest with one ControlPlane, and the Secrets and ConfigMaps that its
    /// machineConfig.files refer to. "-" reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,

    /// Folder to write to: an empty or new one, or one that render wrote for the same ControlPlane.
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,

    /// Folder of certificates and keys. Default: OUTPUT/pki.
    #[arg(long, value_name = "PKI")]
    pki: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error("the ControlPlane cannot be rendered:\n{}", lines(.0))]
    Problems(Vec<Problem>),
    #[error("machine {machine}")]
    Machine {
        machine: String,
        #[source]
        source: MachineConfigError,
    },
    #[error(
        "spec.etcd.clusterRef: the members of EtcdCluster {0:?} are known in the seed only; to render \
         without one, give their URLs in spec.etcd.external"
    )]
    Reference(String),
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(|p| format!("  {p}")).collect();
    lines.join("\n")
}

/// Renders, and says what was written.
pub(super) fn render(args: &Render, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let manifest = manifest::read(&args.file)?;
    let inputs = manifest.inputs(&references(&manifest.control_plane.spec))?;
    let control_plane = resolve(&manifest.control_plane, &inputs)
        .map_err(RenderError::Problems)?
        .control_plane;
    let own_pki = args.pki.is_none().then_some("pki");
    let external = control_plane.etcd.external();
    if let Some(EtcdCredentials::Issued { cluster }) = external.map(|etcd| &etcd.credentials) {
        return Err(RenderError::Reference(cluster.clone()).into());
    }
    let output = Output::open(&args.output, &control_plane, own_pki)?;
    let pki_path = args.pki.clone().unwrap_or_else(|| args.output.join("pki"));
    let pki = PkiFolder::open(&pki_path)?.complete(&control_plane, Clock::system().now())?;
    let machines = machines(&control_plane, &pki)?;
    output.write(&machines)?;
    for machine in &machines {
        let config = &machine.config;
        writeln!(
            out,
            "{}: revision {}, {} files, {} bytes of user data",
            machine.name,
            config.revision,
            config.files.len(),
            config.user_data.len()
        )?;
    }
    writeln!(
        out,
        "kubeconfig: {}",
        kubeconfig(&pki_path, &control_plane).display()
    )?;
    Ok(())
}

fn kubeconfig(pki: &Path, control_plane: &ControlPlane) -> PathBuf {
    pki.join(crate::pki::secret_names::kubeconfig(&control_plane.name))
        .join(crate::pki::secret_names::VALUE)
}

fn machines(control_plane: &ControlPlane, pki: &Pki) -> Result<Vec<RenderedMachine>, RenderError> {
    let one = |machine: &crate::domain::Machine| {
        let leaves = pki.machines.get(&machine.name).cloned().unwrap_or_default();
        let (founding, cluster) = (&pki.founding, &pki.cluster);
        Ok(RenderedMachine {
            name: machine.name.clone(),
            contents: machine_contents(control_plane, machine, founding, cluster, &leaves)?,
            config: machine_config(control_plane, machine, founding, cluster, &leaves)?,
        })
    };
    let named = |machine: &crate::domain::Machine| {
        one(machine).map_err(|source| RenderError::Machine {
            machine: machine.name.to_string(),
            source,
        })
    };
    control_plane.machines.iter().map(named).collect()
}
