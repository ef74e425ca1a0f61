//! SIGTERM and SIGINT, turned into one token that everything long-running watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at
/// once, for a person who does not want to wait.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if cancelled.is_cancelled() {
                tracing::warn!(signal = name, "stopping at once");
                #[expect(clippy::exit, reason = "asked for by a second signal")]
                std::process::exit(130);
            }
            tracing::info!(signal = name, "stopping");
            cancelled.cancel();
        }
    });
    Ok(token)
}
