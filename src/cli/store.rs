//! `store serve`: the embedded store as a server of its own.

use tokio_util::sync::CancellationToken;

use super::arguments::Serve;
use super::exit::Failure;
use super::output;
use crate::daemon::Signals;
use crate::rest::memory::{MemoryAccount, MemoryServer};
use crate::runtime::Runtime;
use crate::stores::azure::DEVELOPMENT_ACCOUNT;

pub(super) async fn serve(command: &Serve) -> Result<(), Failure> {
    let named = command.accounts.iter().map(String::as_str);
    let standing = command.accounts.is_empty().then_some(DEVELOPMENT_ACCOUNT.0);
    let names: Vec<&str> = named.chain(standing).collect();
    let accounts: Result<Vec<_>, _> = names.iter().map(|name| MemoryAccount::new(name, &command.key.0)).collect();
    let accounts = accounts.map_err(Failure::usage)?;
    let signals = Signals::install()?;
    let server = MemoryServer::bind(command.listen, accounts, Runtime::system()).await?;
    let lines: Vec<_> = names.iter().filter_map(|name| server.connection_string(name)).collect();
    output::write(&lines.join("\n"))?;
    let stop = CancellationToken::new();
    let serve = async {
        let served = server.run(stop.clone()).await;
        // A listener that fails ends the command too.
        stop.cancel();
        served
    };
    let (served, waited) = tokio::join!(serve, signals.wait(stop.clone()));
    served?;
    Ok(waited?)
}
