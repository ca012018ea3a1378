//! What listens for the client until it says otherwise: forwarded ports and sockets, its agent, displays.

use std::collections::HashMap;
use std::time::Duration;

use gateway_wire::session::ListenOn;

use crate::session_link::SessionLink;

/// Patience with the session's answer whether it listens: it asks nobody.
const LISTEN_TIME: Duration = Duration::from_secs(10);

/// The listeners of a login.
pub struct Listeners {
    session: SessionLink,
    open: HashMap<Asked, u32>,
    /// Whether the client's agent is forwarded already.
    agent: bool,
}

/// A listener as the client names it when it wants it closed.
#[derive(PartialEq, Eq, Hash)]
enum Asked {
    Tcp(String, u32),
    Unix(String),
}

impl Listeners {
    /// Nothing listens yet.
    pub fn new(session: SessionLink) -> Self {
        Self {
            session,
            open: HashMap::new(),
            agent: false,
        }
    }

    /// Forwards a port; 0 lets the session choose. The port, unless it is refused.
    pub async fn tcp(&mut self, address: &str, port: u32) -> Option<u32> {
        let on = ListenOn::Tcp {
            address: address.to_owned(),
            port: u16::try_from(port).ok()?,
        };
        let (number, taken) = listen(&self.session, on).await?;
        let taken = u32::from(taken);
        let asked = Asked::Tcp(address.to_owned(), taken);
        self.open.insert(asked, number);
        Some(taken)
    }

    /// Closes it; false if there is none.
    pub fn stop_tcp(&mut self, address: &str, port: u32) -> bool {
        self.stop(&Asked::Tcp(address.to_owned(), port))
    }

    /// Forwards a Unix socket; false if it is refused.
    pub async fn unix(&mut self, path: &str) -> bool {
        let Some((number, _)) = listen(&self.session, ListenOn::Unix(path.to_owned())).await else {
            return false;
        };
        self.open.insert(Asked::Unix(path.to_owned()), number);
        true
    }

    /// Closes it; false if there is none.
    pub fn stop_unix(&mut self, path: &str) -> bool {
        self.stop(&Asked::Unix(path.to_owned()))
    }

    /// Forwards the client's agent; false if it is refused. One socket serves all programs of the login.
    pub async fn agent(&mut self) -> bool {
        if !self.agent {
            self.agent = listen(&self.session, ListenOn::Agent).await.is_some();
        }
        self.agent
    }

    fn stop(&mut self, asked: &Asked) -> bool {
        match self.open.remove(asked) {
            Some(number) => {
                self.session.close(number);
                true
            }
            None => false,
        }
    }
}

/// Listens for the client, which waits for the answer; the session gives it at once. The listener's
/// number and port, unless it is refused.
pub async fn listen(session: &SessionLink, on: ListenOn) -> Option<(u32, u16)> {
    let number = session.number();
    match tokio::time::timeout(LISTEN_TIME, session.listen(number, on)).await {
        Ok(Ok(port)) => Some((number, port)),
        Ok(Err(_)) => None,
        Err(_late) => {
            session.close(number);
            None
        }
    }
}
