//! A connection to one server, not yet bound: the relay, the library's driver, and its end.

use std::time::Duration;

use ldap_link::LinkError;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, StdStream};
use tokio::sync::watch;

use super::{LdapError, Server};
use crate::config;

/// How long connecting, and then TLS, may take.
const STEP: Duration = Duration::from_secs(3);

/// Connects to `server`; the receiver turns true when the connection has ended.
///
/// # Errors
/// [`LdapError`].
pub async fn connect(
    config: &config::Ldap,
    server: &Server,
) -> Result<(Ldap, watch::Receiver<bool>), LdapError> {
    let uri = server.uri.clone();
    let ended = move |error: LinkError| {
        tracing::debug!(event = "ldap.link", %uri, error = service::exit::chain(&error));
    };
    let key = config.client_key().map_err(LdapError::Password)?;
    let stream = ldap_link::open(
        server,
        config.start_tls,
        config.trust(key.as_ref()),
        STEP,
        ended,
    )
    .await?;
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
    let (connection, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///")
        .await
        .map_err(|source| LdapError::Library {
            action: format!("connect to '{}'", server.uri),
            source: Box::new(source),
        })?;
    let (sender, ended) = watch::channel(false);
    tokio::spawn(async move {
        // In a task of its own: if the library panics, this task ends, and with it the connection.
        let driver = tokio::spawn(connection.drive());
        let _ = driver.await;
        let _ = sender.send(true);
    });
    Ok((ldap, ended))
}
