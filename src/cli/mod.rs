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
mod explain;
mod join_command;
mod render;
pub mod status;

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
    JoinCommand(join_command::JoinCommand),
    Render(render::Render),
    Status(status::Status),
    Explain(explain::Explain),
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    let failure = match command {
        // Its exit code 1 has a meaning of its own.
        Command::Status(_) | Command::Explain(_) => ExitCode::from(2),
        Command::Operator(_) | Command::Crds | Command::JoinCommand(_) | Command::Render(_) => {
            ExitCode::FAILURE
        }
    };
    let done: Result<ExitCode, Box<dyn Error>> = match command {
        Command::Operator(settings) => operator(*settings).map(|()| ExitCode::SUCCESS),
        Command::Crds => crds::print()
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::JoinCommand(args) => join_command(args).map(|()| ExitCode::SUCCESS),
        Command::Render(render) => {
            render::render(&render, &mut io::stdout().lock()).map(|()| ExitCode::SUCCESS)
        }
        Command::Status(args) => status(args),
        Command::Explain(args) => explain(args),
    };
    match done {
        Ok(code) => code,
        // Whoever reads, such as `head`, has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = chain(&*error);
            tracing::error!(%error, "stopped");
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "seedbed: {error}");
            failure
        }
    }
}

/// The first user of TLS would otherwise have to choose between providers.
fn choose_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn status(args: status::Status) -> Result<ExitCode, Box<dyn Error>> {
    choose_crypto();
    crate::runtime::executor()?.block_on(status::status(args, &mut io::stdout()))
}

fn join_command(args: join_command::JoinCommand) -> Result<(), Box<dyn Error>> {
    choose_crypto();
    crate::runtime::executor()?.block_on(join_command::join_command(args, &mut io::stdout()))
}

fn explain(args: explain::Explain) -> Result<ExitCode, Box<dyn Error>> {
    choose_crypto();
    crate::runtime::executor()?.block_on(explain::explain(args, &mut io::stdout()))
}

fn operator(settings: Settings) -> Result<(), Box<dyn Error>> {
    choose_crypto();
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
