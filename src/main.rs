//! The `seedbed` program.

/// Gives memory back after a burst, such as hundreds of control planes after a start; its settings
/// are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    seedbed::cli::run()
}
