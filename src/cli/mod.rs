//! The command line: what `seedbed` can do, one file a command.
//!
//! Answers how a person or a Deployment asks for something. Never decides anything. A new command
//! is a variant of [`Command`] and a file here.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::runtime::settings::Settings;

mod crds;
mod render;

/// Highly available Kubernetes control planes on machines of your own.
#[derive(Parser)]
#[command(name = "seedbed", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the current kubeconfig or the pod's service account.
    Operator(Box<Settings>),
    /// Print the CustomResourceDefinitions, ready for kubectl apply.
    Crds,
    Render(render::Render),
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let done: Result<(), Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Operator(settings) => operator(*settings),
        Command::Crds => crds::print().map_err(Into::into),
        Command::Render(render) => render::render(&render, &mut io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads, such as `head`, has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = chain(&*error);
            tracing::error!(%error, "stopped");
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "seedbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn operator(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    // The first user of TLS would otherwise have to choose between providers.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(crate::runtime::executor()?.block_on(crate::operator::run(settings))?)
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes, without a cause that the text before it already tells.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
