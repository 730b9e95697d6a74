//! The command `tablerelay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything can connect: rustls panics where several providers are compiled in and none was chosen.
    tablerelay::stores::tls::install_provider();
    tablerelay::cli::main()
}
