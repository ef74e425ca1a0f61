//! `seedbed crds`.

use std::io::{self, Write};

use crate::crd::all_crds;
use crate::yaml::to_yaml;

/// Prints all CustomResourceDefinitions as one YAML stream.
pub fn print() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for crd in all_crds() {
        writeln!(out, "---")?;
        out.write_all(to_yaml(&crd).map_err(io::Error::other)?.as_bytes())?;
    }
    Ok(())
}
