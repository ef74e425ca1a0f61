//! Size of the program, and time to issue certificates.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use seedbed::controllers::control_plane::resolve::{Inputs, resolve};
use seedbed::crd::{ControlPlane, KeyAlgorithm};
use seedbed::pki::issue::issue_control_plane;

use super::super::stage;
use super::objects;
use super::report::{Report, mebibytes, median};

const SIZE_GOAL: f64 = 20.0;

/// Both, on one thread of this process.
pub fn measure(report: &mut Report) -> Result<()> {
    let program = stage::program()?;
    let bytes = std::fs::metadata(&program)
        .with_context(|| program.display().to_string())?
        .len();
    let megabytes = mebibytes(bytes / 1024) * 1.048_576;
    report.goal(
        "size of the stripped binary",
        format!("≤ {SIZE_GOAL} MB"),
        format!("{megabytes:.1} MB"),
        megabytes <= SIZE_GOAL,
    );
    for (algorithm, name, tries) in [
        (KeyAlgorithm::EcdsaP256, "ECDSA-P256", 101),
        (KeyAlgorithm::Rsa2048, "RSA-2048", 3),
    ] {
        let took = issue(algorithm, tries)?;
        report.figure(
            format!("all keys and certificates of a three-machine control plane, {name}"),
            format!("{:.2} ms", took.as_secs_f64() * 1000.0),
        );
    }
    Ok(())
}

fn issue(algorithm: KeyAlgorithm, tries: u32) -> Result<Duration> {
    let object: ControlPlane = serde_json::from_value(objects::without_machines("bench", 0))?;
    let resolved = resolve(&object, &Inputs::default());
    let mut control_plane = resolved
        .map_err(|problems| anyhow!("the object is wrong: {problems:?}"))?
        .control_plane;
    control_plane.key_algorithm = algorithm;
    let mut times = Vec::new();
    for _ in 0..tries {
        let began = Instant::now();
        let issued = issue_control_plane(&control_plane, Timestamp::now())?;
        times.push(began.elapsed());
        drop(std::hint::black_box(issued));
    }
    median(&times).context("no tries")
}
