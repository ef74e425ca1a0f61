//! The measured table in docs/reliability.md, between its own marks.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- etcd_live: begin -->";
const END: &str = "<!-- etcd_live: end -->";

/// One measured scenario.
pub struct Row {
    /// In the catalogue; empty for a walk.
    pub number: &'static str,
    pub fault: String,
    pub expected: String,
    pub version: &'static str,
    /// What was seen, or why it failed.
    pub seen: std::result::Result<String, String>,
    /// Acknowledged writes that were all there at the end.
    pub writes: usize,
    pub took: Duration,
}

/// The section as text.
pub fn section(rows: &[Row], walks: Option<&str>) -> String {
    let mut text = format!(
        "{BEGIN}\n## Real etcd\n\n\
         Each scenario is a ControlPlane of its own on a real seed, with the real operator and etcd\n\
         processes in network namespaces; clients write and read throughout. In every one: each\n\
         acknowledged write was there at the end and after each change of leaders, reads were\n\
         linearizable, there was one cluster ID, no removed ID came back, and writes went on after\n\
         each change of membership. Lost machines are waited for 1 min (`nodeLoss.timeout`).\n\
         Numbers are those of Seedbed's catalogue of faults. To repeat:\n\n\
         ```sh\nUPDATE=1 cargo test --test etcd_live\n```\n\n\
         | # | Fault | Expected | Seen | etcd | Writes | Time | Verdict |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let (seen, verdict) = match &row.seen {
            Ok(seen) => (seen.clone(), "pass"),
            Err(why) => (
                why.lines().next().unwrap_or_default().to_owned(),
                "**fail**",
            ),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} s | {verdict} |",
            row.number,
            row.fault,
            row.expected,
            seen.replace('|', "/"),
            row.version,
            row.writes,
            row.took.as_secs()
        );
    }
    if let Some(walks) = walks {
        let _ = write!(text, "\n{walks}\n");
    }
    text + END + "\n"
}

/// Puts the section in its place in the document, which is made when it is missing.
pub fn write(section: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    let old = match std::fs::read_to_string(&file) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "# What was broken, and what happened\n\nMeasured by the tests; not edited by hand.\n"
                .to_owned()
        }
        Err(error) => return Err(error.into()),
    };
    let new = match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) => {
            let rest = old[end + END.len()..].trim_start_matches('\n');
            let gap = if rest.is_empty() { "" } else { "\n" };
            format!("{}{section}{gap}{rest}", &old[..begin])
        }
        _ => format!("{}\n\n{section}", old.trim_end()),
    };
    std::fs::write(&file, new).with_context(|| file.display().to_string())
}
