//! How large a window clients get: as large as the line needs, and no larger.
//!
//! What a client may send before it hears from us is on the line, or lies in this host's socket in
//! front of every key that is typed after it. A line is long when the client has used up what it
//! had before the new window reached it; it is short when the socket never ran dry.

use std::time::{Duration, Instant};

/// The first window, in bytes. russh ends a connection that sends more than twice as much between our
/// wish for new keys and its own: so two of these hold a whole window of the largest size, which may be
/// on its way, and the headers of its packets.
pub const FIRST: u32 = MOST / 2 + (256 << 10);
/// What a window shrinks to where the line needs no more: OpenSSH's.
pub const USUAL: u32 = 2 << 20;
/// The largest one, and what channels that upload at the same time share. It bounds the speed of
/// uploads over a long line: russh gives it back when half is used, so 8 MiB in 40 ms are 200 MiB/s.
const MOST: u32 = 16 << 20;
/// How long after a grant its channel counts as one that uploads.
const RECENT: Duration = Duration::from_secs(1);
/// The smallest one: what this process reads in the time of a few process switches.
pub const LEAST: u32 = 256 << 10;
/// Part of the time that a line may stand still for want of a window before the next one is larger.
const STILL: u32 = 16;

/// A line that stands still so long at a time is a long one: the window grows in larger steps.
const LONG: Duration = Duration::from_millis(10);

/// The window that is given next, on whichever channel.
pub struct Window {
    size: u32,
    /// How often the socket had been empty at the last grant.
    dry: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: USUAL,
            dry: 0,
        }
    }
}

impl Window {
    /// Bytes, for a channel beside `others` that upload.
    pub fn size(&self, others: usize) -> u32 {
        let channels = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        self.size.min(MOST / channels).max(LEAST)
    }

    /// Learns from what came between two grants on one channel, at the packet that led to the second.
    /// `dry` counts how often the socket has been empty, from the start of the connection.
    pub fn learn(&mut self, mut grant: Grant, dry: u64, now: Instant) {
        grant.received(1, dry, now);
        if grant.still > LONG {
            self.size = self.size.saturating_mul(4).min(MOST);
        } else if grant.still * STILL > now - grant.at {
            self.size = self.size.saturating_mul(2).min(MOST);
        } else if dry == self.dry {
            self.size = (self.size - self.size / 4).max(LEAST);
        } else if grant.still.is_zero() && self.size > USUAL {
            // It may be larger than the line needs, or than it needed at a busy moment.
            self.size = (self.size - self.size / 8).max(USUAL);
        }
        self.dry = dry;
    }
}

/// One grant on one channel, and what became of it.
pub struct Grant {
    at: Instant,
    /// What the client may send without having heard of it; `None` once it has sent more.
    before: Option<u32>,
    /// When the last packet was read, and how often the socket had been empty by then.
    last: (Instant, u64),
    /// How long nothing came after the client had sent all that.
    still: Duration,
}

impl Grant {
    /// A grant for a client that may still send `before` bytes without it. For `dry` see
    /// [`Window::learn`].
    pub fn new(before: u32, dry: u64, now: Instant) -> Self {
        Self {
            at: now,
            before: Some(before),
            last: (now, dry),
            still: Duration::ZERO,
        }
    }

    /// Whether the channel uploads, as far as can be seen at `now`.
    pub fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < RECENT
    }

    /// Bytes have arrived.
    pub fn received(&mut self, bytes: u32, dry: u64, now: Instant) {
        if let Some(before) = self.before {
            self.before = before.checked_sub(bytes);
            // The first packet of the new window; a client that had to wait for that has used up the
            // old one exactly.
            let (last, seen) = self.last;
            if before == 0 && dry != seen {
                self.still = now - last;
            }
        }
        self.last = (now, dry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel whose client sends a MiB in `mib` and gets each window `late` after it was granted;
    /// `queued` is whether the socket always holds more. The window in the end.
    fn after(mib: Duration, late: Duration, queued: bool) -> u32 {
        const PACKET: u32 = 32 << 10;
        let (mut window, mut now, mut dry) = (Window::default(), Instant::now(), 0);
        let (mut size, mut left) = (FIRST, FIRST);
        let mut grant: Option<Grant> = None;
        for _ in 0..20_000 {
            now += mib / 32;
            dry += u64::from(!queued);
            if let Some(grant) = &grant
                && grant.before == Some(0)
                && now < grant.at + late
            {
                now = grant.at + late;
                dry += 1;
            }
            // A packet ends where the window does that the client knows of.
            let known = grant.as_ref().and_then(|grant| grant.before);
            let packet = PACKET.min(known.filter(|left| *left > 0).unwrap_or(left));
            // As russh and `flow` do it.
            left -= packet;
            if left < size / 2 {
                let before = left;
                left = size;
                if let Some(grant) = grant.take() {
                    window.learn(grant, dry, now);
                }
                size = window.size(0);
                grant = Some(Grant::new(before, dry, now));
            } else if let Some(grant) = &mut grant {
                grant.received(packet, dry, now);
            }
        }
        window.size(0)
    }

    #[test]
    fn as_large_as_the_line_is_long() {
        let ms = Duration::from_millis;
        assert_eq!(after(ms(4), Duration::ZERO, true), LEAST);
        assert!(after(ms(2), ms(40), false) > MOST / 2);
        let middle = after(ms(2), ms(5), false);
        assert!((2 * USUAL..=4 * USUAL).contains(&middle), "{middle}");
        // A slow client on a short line: neither.
        assert_eq!(after(ms(100), ms(1), false), USUAL);
    }

    #[test]
    fn uploads_at_the_same_time_share_the_largest() {
        let window = Window { size: MOST, dry: 0 };
        assert_eq!(
            [0, 1, 3].map(|n| window.size(n)),
            [MOST, MOST / 2, MOST / 4]
        );
        assert_eq!(window.size(10_000), LEAST);
        assert_eq!(Window::default().size(1), USUAL);
        let start = Instant::now();
        let grant = Grant::new(0, 0, start);
        assert!(grant.is_recent(start));
        assert!(!grant.is_recent(start + RECENT));
    }
}
