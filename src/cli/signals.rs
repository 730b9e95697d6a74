//! Work that a signal asks to end.

use tokio_util::sync::CancellationToken;

use super::exit::Failure;
use crate::daemon::Signals;

/// Does work to its end; SIGTERM or SIGINT asks it to end as early as it can end well.
///
/// # Errors
/// Where signals cannot be waited for.
pub(super) async fn until_asked<T>(work: impl AsyncFnOnce(&CancellationToken) -> T) -> Result<T, Failure> {
    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    let signals = Signals::install()?;
    let work = async {
        let done = work(&stop).await;
        over.cancel();
        done
    };
    let asked = async {
        let waited = signals.wait(over.clone()).await;
        stop.cancel();
        waited
    };
    let (done, waited) = tokio::join!(work, asked);
    waited?;
    Ok(done)
}
