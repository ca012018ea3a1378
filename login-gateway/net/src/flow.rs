//! How much clients may send: the windows of all channels, and whose turn it is when one is behind.
//!
//! russh gives a window back when bytes arrive, not when a program has read them, and could only
//! stop a client by reading nothing at all: then no window of the client's would arrive either, and
//! a program that writes as it reads would wait for ever (T1, T2). What can be chosen is one size
//! for the next window, whoever gets it: whichever channel's bytes arrive next and has used up
//! half of that size.
//!
//! A program that takes what it gets, only slower than it comes, is waited for a moment: its client
//! hears of a new window when it has read. One that is behind all the same, because it reads nothing
//! or little, must not hold up the others. So while a program is behind, the next window is of two bytes: its client has nothing to do but
//! to send those two, again and again, at our pace. Another channel that has used up its own window
//! is fed in the moment after such a packet: the client of the slow channel has sent all it may,
//! hence the next packet is not its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use russh::ChannelId;

use crate::inbox::Inbox;
use crate::window::{FIRST, Grant, LEAST, USUAL, Window};

/// Unread bytes of one channel above which its program is waited for.
const SLOW: usize = 256 << 10;
/// How long: a program that reads at all has had its turn by then.
const MOMENT: Duration = Duration::from_millis(2);
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

/// What all channels may have unread together, in bytes. Clients have been promised first windows for
/// all of them, so a throttle alone would not hold it: above it nothing is read, until programs read.
const MOST: usize = 256 << 20;
/// Time that this may take without a program having read; then the connection ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs that read nothing have left too much unread for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NobodyReads;

/// The open channels of a connection.
#[derive(Clone, Default)]
pub struct Flow {
    shared: Arc<Mutex<Shared>>,
    /// How often the socket has been empty.
    dry: Arc<AtomicU64>,
}

#[derive(Default)]
struct Shared {
    channels: Channels,
    window: Window,
}

type Channels = HashMap<ChannelId, Watched>;

struct Watched {
    inbox: Arc<Inbox>,
    /// What the client may still send, as russh counts it.
    window: u32,
    /// The same before the packet that is being handled, if that packet was answered with a window.
    granted: Option<u32>,
    /// The last one.
    grant: Option<Grant>,
    /// Whether its program took nothing when it was waited for. It is not waited for again before it
    /// has taken all but a little.
    slow: bool,
    /// Whether the client has closed it; what it sent before may still wait for the program.
    closed: bool,
}

impl Watched {
    fn behind(&self) -> bool {
        !self.closed && self.inbox.len() > BACKLOG
    }

    fn uploads(&self, now: Instant) -> bool {
        !self.closed && self.grant.as_ref().is_some_and(|g| g.is_recent(now))
    }

    /// Whether the client can send no more than a throttled window.
    fn used_up(&self) -> bool {
        !self.closed && self.window <= THROTTLED
    }
}

/// What the loop waits for after a packet.
enum Wait {
    Nothing,
    /// The program, for a moment.
    Reader(Arc<Inbox>),
    /// The same, at the pace of throttled windows.
    Throttle(Arc<Inbox>),
}

impl Flow {
    /// To be counted up whenever the socket is empty.
    pub fn dry(&self) -> Arc<AtomicU64> {
        self.dry.clone()
    }

    /// Watches a channel until it is closed.
    pub fn watch(&self, channel: ChannelId, inbox: Arc<Inbox>) {
        let watched = Watched {
            inbox,
            window: FIRST,
            granted: None,
            grant: None,
            slow: false,
            closed: false,
        };
        self.lock().channels.insert(channel, watched);
    }

    /// Notes that the client sends no more on a channel.
    pub fn closed(&self, channel: ChannelId) {
        if let Some(watched) = self.lock().channels.get_mut(&channel) {
            watched.closed = true;
        }
    }

    /// Forgets a channel: nobody reads what it has sent.
    pub fn forget(&self, channel: ChannelId) {
        self.lock().channels.remove(&channel);
    }

    /// russh has just filled this channel's window up to `window`, for a packet that
    /// [`Self::received`] sees next. The size of the next window.
    pub fn granted(&self, channel: ChannelId, window: u32) -> u32 {
        let mut shared = self.lock();
        let Shared {
            channels,
            window: next_one,
        } = &mut *shared;
        let now = Instant::now();
        if let Some(watched) = channels.get_mut(&channel) {
            if let Some(grant) = watched.grant.take() {
                next_one.learn(grant, self.dry.load(Ordering::Relaxed), now);
            }
            watched.granted = Some(watched.window);
            watched.window = window;
        }
        // This channel's own grant has just been taken.
        let others = channels.values().filter(|c| c.uploads(now)).count();
        next(channels, channel, next_one.size(others))
    }

    /// Bytes have arrived. Waits where a throttled window would otherwise be answered at once, for
    /// programs that are reading, and where all that may be unread is.
    ///
    /// # Errors
    /// [`NobodyReads`].
    pub async fn received(&self, channel: ChannelId, bytes: usize) -> Result<(), NobodyReads> {
        wait_for_room(|| self.unread()).await?;
        let wait = self.count(channel, u32::try_from(bytes).unwrap_or(u32::MAX));
        match wait {
            Wait::Nothing => {}
            Wait::Throttle(inbox) => {
                let _ = tokio::time::timeout(PACE, inbox.at_most(BACKLOG)).await;
            }
            Wait::Reader(inbox) => {
                let waiting = tokio::time::timeout(MOMENT, inbox.at_most(SLOW));
                if waiting.await.is_err()
                    && let Some(watched) = self.lock().channels.get_mut(&channel)
                {
                    watched.slow = true;
                }
            }
        }
        Ok(())
    }

    /// Bytes that no program has read yet.
    fn unread(&self) -> usize {
        let shared = self.lock();
        shared.channels.values().map(|c| c.inbox.len()).sum()
    }

    fn count(&self, channel: ChannelId, bytes: u32) -> Wait {
        let mut shared = self.lock();
        let channels = &mut shared.channels;
        let behind = channels.values().any(Watched::behind);
        let Some(watched) = channels.get_mut(&channel) else {
            return Wait::Nothing;
        };
        let (dry, now) = (self.dry.load(Ordering::Relaxed), Instant::now());
        if let Some(before) = watched.granted.take() {
            let before = before.saturating_sub(bytes);
            // A throttled window says nothing of the line.
            watched.grant = (watched.window >= LEAST).then(|| Grant::new(before, dry, now));
        } else {
            watched.window = watched.window.saturating_sub(bytes);
            if let Some(grant) = &mut watched.grant {
                grant.received(bytes, dry, now);
            }
        }
        let unread = watched.inbox.len();
        watched.slow &= unread > SLOW / 2;
        if behind {
            if watched.used_up() && bytes <= THROTTLED {
                return Wait::Throttle(watched.inbox.clone());
            }
        } else if unread > SLOW && !watched.slow {
            return Wait::Reader(watched.inbox.clone());
        }
        Wait::Nothing
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits while more is unread than may be.
async fn wait_for_room(unread: impl Fn() -> usize) -> Result<(), NobodyReads> {
    let mut least = unread();
    let mut end = tokio::time::Instant::now() + PATIENCE;
    while least > MOST {
        tokio::time::sleep(PACE).await;
        let now = unread();
        if now < least {
            (least, end) = (now, tokio::time::Instant::now() + PATIENCE);
        } else if tokio::time::Instant::now() >= end {
            return Err(NobodyReads);
        }
    }
    Ok(())
}

/// The size of the next window, after `last` has got one.
fn next(channels: &Channels, last: ChannelId, window: u32) -> u32 {
    let (behind, others): (Vec<_>, Vec<_>) = channels.iter().partition(|(_, c)| c.behind());
    if behind.is_empty() {
        return window;
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
    let food = if sending > 1 {
        MORSEL
    } else {
        window.max(USUAL)
    };
    if hungry && held + food as usize <= LIMIT && (last_sends || sending == 0) {
        food
    } else {
        THROTTLED
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn above_the_bound_nothing_more_is_read_until_a_program_reads() {
        let full = |bytes: usize| {
            let inbox = Inbox::default();
            inbox.push(Bytes::from(vec![0; bytes]));
            inbox
        };
        let inboxes = [full(MOST / 2), full(MOST / 2), full(0)];
        let unread = || inboxes.iter().map(Inbox::len).sum();
        assert_eq!(wait_for_room(unread).await, Ok(()));
        inboxes[2].push(Bytes::from_static(&[0; 2000]));
        let (waited, ()) = tokio::join!(wait_for_room(unread), async {
            tokio::time::sleep(PATIENCE * 3 / 4).await;
            let _ = inboxes[2].pop().await;
        });
        assert_eq!(waited, Ok(()));
        inboxes[0].push(Bytes::from_static(&[0; 2000]));
        assert_eq!(wait_for_room(unread).await, Err(NobodyReads));
        inboxes[0].refuse();
        assert_eq!(wait_for_room(unread).await, Ok(()));
    }
}
