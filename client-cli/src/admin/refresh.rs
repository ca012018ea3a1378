//! Telling directoryd that something changed, so that the next login sees it. What directoryd does
//! about it does not live here.

use std::path::Path;
use std::time::Duration;

use directory_client::{Client, ClientError};

/// Asks the daemon behind `socket` to look at the directory now.
///
/// # Errors
/// [`ClientError`] where it does not answer or lets only others ask.
pub fn ask(socket: &Path) -> Result<(), ClientError> {
    Client::new(socket)
        .with_timeout(Duration::from_secs(5))
        .refresh()
}
