//! The `seedbed` program.

fn main() -> std::process::ExitCode {
    seedbed::cli::run()
}
