//! How much clients may send: one window for all channels, since russh has no other.
//!
//! russh gives the window back when bytes arrive, not when a program has read them, and would
//! otherwise have to stop reading from the client: then no window of the client's would arrive
//! either, and a program that writes as it reads would wait for ever (T1, T2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::ChannelId;

use crate::crypto::WINDOW;
use crate::inbox::Inbox;

/// Unread bytes of one channel above which no more window is given.
const BACKLOG: usize = 1 << 20;
/// Window of every channel while one is behind, in bytes: the least that russh grants, and not
/// nothing, since russh only ever looks again when bytes have arrived.
const THROTTLED: u32 = 2;
/// Time between two such windows.
const PACE: Duration = Duration::from_millis(5);

/// The inboxes of a connection's open channels.
#[derive(Clone, Default)]
pub struct Flow {
    inboxes: Arc<Mutex<HashMap<ChannelId, Arc<Inbox>>>>,
}

impl Flow {
    /// Watches a channel until it is closed.
    pub fn watch(&self, channel: ChannelId, inbox: Arc<Inbox>) {
        self.lock().insert(channel, inbox);
    }

    /// Forgets a channel: it sends no more.
    pub fn forget(&self, channel: ChannelId) {
        self.lock().remove(&channel);
    }

    /// The window that channels get next.
    pub fn window(&self) -> u32 {
        if self.behind() { THROTTLED } else { WINDOW }
    }

    /// The client sends the few bytes of a throttled window at once, and russh would grant the next
    /// few at once: this is the pace of that exchange.
    pub async fn pace(&self, bytes: usize) {
        if bytes <= THROTTLED as usize && self.behind() {
            tokio::time::sleep(PACE).await;
        }
    }

    /// Whether some program has left so much unread that clients should stop sending.
    fn behind(&self) -> bool {
        self.lock().values().any(|inbox| inbox.len() > BACKLOG)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
