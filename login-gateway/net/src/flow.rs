//! How much clients may send: the windows of all channels, and whose turn it is when one is behind.
//!
//! russh gives a window back when bytes arrive, not when a program has read them, and could only
//! stop a client by reading nothing at all: then no window of the client's would arrive either, and
//! a program that writes as it reads would wait for ever (T1, T2). What can be chosen is one size
//! for the next window, whoever gets it: whichever channel's bytes arrive next and has used up
//! half of that size.
//!
//! So while a program is behind, the next window is of two bytes: its client has nothing to do but
//! to send those two, again and again, at our pace. Another channel that has used up its own window
//! is fed in the moment after such a packet: the client of the slow channel has sent all it may,
//! hence the next packet is not its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::ChannelId;

use crate::crypto::WINDOW;
use crate::inbox::Inbox;

/// Unread bytes of one channel above which it is behind.
const BACKLOG: usize = 1 << 20;
/// Window of a channel that is behind, in bytes: the least that russh grants, and not nothing, since
/// russh only ever looks again when bytes have arrived.
const THROTTLED: u32 = 2;
/// Time between two such windows.
const PACE: Duration = Duration::from_millis(5);
/// Window for a hungry channel while several are behind: a guess whose packet comes next may be
/// wrong, and then one of those gets it.
const MORSEL: u32 = 256 * 1024;
/// What channels that are behind may have unread and may still send, all together, in bytes; above
/// it nobody is fed before they read.
const LIMIT: usize = 128 << 20;

/// The open channels of a connection.
#[derive(Clone, Default)]
pub struct Flow(Arc<Mutex<Channels>>);

type Channels = HashMap<ChannelId, Watched>;

struct Watched {
    inbox: Arc<Inbox>,
    /// What the client may still send, as russh counts it.
    window: u32,
    /// Whether that was set by the packet that is being handled.
    granted: bool,
}

impl Watched {
    fn behind(&self) -> bool {
        self.inbox.len() > BACKLOG
    }

    /// Whether the client can send no more than a throttled window.
    fn used_up(&self) -> bool {
        self.window <= THROTTLED
    }
}

impl Flow {
    /// Watches a channel until it is closed.
    pub fn watch(&self, channel: ChannelId, inbox: Arc<Inbox>) {
        let watched = Watched {
            inbox,
            window: WINDOW,
            granted: false,
        };
        self.lock().insert(channel, watched);
    }

    /// Forgets a channel: it sends no more.
    pub fn forget(&self, channel: ChannelId) {
        self.lock().remove(&channel);
    }

    /// russh has just filled this channel's window up to `window`, for a packet that
    /// [`Self::received`] sees next. The size of the next window.
    pub fn granted(&self, channel: ChannelId, window: u32) -> u32 {
        let mut channels = self.lock();
        if let Some(watched) = channels.get_mut(&channel) {
            watched.window = window;
            watched.granted = true;
        }
        next(&channels, channel)
    }

    /// Bytes have arrived. Waits where a throttled window would otherwise be answered at once.
    pub async fn received(&self, channel: ChannelId, bytes: usize) {
        let pace = {
            let mut channels = self.lock();
            let behind = channels.values().any(Watched::behind);
            channels.get_mut(&channel).is_some_and(|watched| {
                if !std::mem::take(&mut watched.granted) {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    watched.window = watched.window.saturating_sub(bytes);
                }
                behind && watched.used_up()
            })
        };
        if pace && bytes <= THROTTLED as usize {
            tokio::time::sleep(PACE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Channels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size of the next window, after `last` has got one.
fn next(channels: &Channels, last: ChannelId) -> u32 {
    let (behind, others): (Vec<_>, Vec<_>) = channels.iter().partition(|(_, c)| c.behind());
    if behind.is_empty() {
        return WINDOW;
    }
    let hungry = others.iter().any(|(_, channel)| channel.used_up());
    let held: usize = behind
        .iter()
        .map(|(_, channel)| channel.inbox.len() + channel.window as usize)
        .sum();
    // Of those that are behind, who may send something at this moment?
    let sending = behind
        .iter()
        .filter(|(_, channel)| channel.used_up())
        .count();
    let last_sends = behind.iter().any(|(id, _)| **id == last);
    let food = if sending > 1 { MORSEL } else { WINDOW };
    if hungry && held + food as usize <= LIMIT && (last_sends || sending == 0) {
        food
    } else {
        THROTTLED
    }
}
