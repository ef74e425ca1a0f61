//! What is done to the clusters, and what is expected of them; each function is a number of the
//! catalogue and returns what it has seen.

pub mod founding;
pub mod identity;
pub mod joining;
pub mod loss;
pub mod network;
pub mod operator;
pub mod replacement;

use crate::trial::Trial;

pub const THREE: [&str; 3] = ["m-1", "m-2", "m-3"];

/// What is said when nothing was changed.
pub fn nothing_changed(trial: &Trial<'_>) -> anyhow::Result<()> {
    anyhow::ensure!(
        trial.journal.operations().is_empty(),
        "the operator began {:?}",
        trial.journal.operations()
    );
    let seen = trial.sight.lock();
    anyhow::ensure!(
        seen.changes
            .iter()
            .all(|change| change.ends_with("started")),
        "the list has changed: {:?}",
        seen.changes
    );
    Ok(())
}
