//! When a channel moved bytes last, and whether any channel is open at all: what the time-outs of
//! the policy ask.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_wire::Policy;
use gateway_wire::timeout::{self, kind};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::meter::Meter;

/// Of a connection, or of one of its channels.
#[derive(Debug)]
pub struct Activity {
    /// Of the connection.
    pub meter: Arc<Meter>,
    begun: Instant,
    /// Of the last byte, in milliseconds since then.
    last: AtomicU64,
    /// The connection, of a channel.
    whole: Option<Arc<Activity>>,
}

impl Activity {
    /// A connection's.
    pub fn new(whole: Option<Arc<Activity>>) -> Arc<Self> {
        let meter = whole.as_ref().map(|whole| whole.meter.clone());
        Arc::new(Self {
            meter: meter.unwrap_or_default(),
            begun: Instant::now(),
            last: AtomicU64::new(0),
            whole,
        })
    }

    /// Counts bytes from the client.
    pub fn received(&self, bytes: usize) {
        self.meter.received(bytes);
        self.all_moved();
    }

    /// Counts bytes to the client.
    pub fn sent(&self, bytes: usize) {
        self.meter.sent(bytes);
        self.all_moved();
    }

    fn all_moved(&self) {
        self.moved();
        if let Some(whole) = &self.whole {
            whole.moved();
        }
    }

    /// Notes that something happened now.
    pub fn moved(&self) {
        let since = self.begun.elapsed().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// Resolves when a channel of this kind has been silent for longer than the policy lets it, with
    /// that time; or all channels have been.
    pub async fn expired(&self, policy: &Policy, of_kind: &str) -> Duration {
        let timeouts = &policy.channel_timeout;
        let own = timeout::of(timeouts, of_kind).map(|time| (self, time));
        let whole = self.whole.as_deref();
        let all = whole.zip(timeout::of(timeouts, kind::GLOBAL));
        loop {
            let ends = [own, all].into_iter().flatten();
            let ends = ends.map(|(what, time)| (what.last() + time, time));
            let Some((end, time)) = ends.min_by_key(|(end, _)| *end) else {
                return std::future::pending().await;
            };
            if Instant::now() >= end {
                return time;
            }
            sleep_until(end).await;
        }
    }
}

/// The open channels of a connection.
#[derive(Debug, Clone, Default)]
pub struct OpenChannels(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many, and since when there is none.
    open: Mutex<(usize, Option<Instant>)>,
    changed: Notify,
}

/// One of them, as long as this is kept.
#[derive(Debug)]
pub struct OpenChannel(OpenChannels);

impl OpenChannels {
    /// One more.
    pub fn one(&self) -> OpenChannel {
        self.lock().0 += 1;
        OpenChannel(self.clone())
    }

    /// How many there are.
    pub fn number(&self) -> usize {
        self.lock().0
    }

    /// Resolves when there has been none for this time.
    pub async fn unused(&self, time: Duration) {
        let now = Instant::now();
        self.lock().1.get_or_insert(now);
        loop {
            let changed = self.0.changed.notified();
            let (open, since) = *self.lock();
            let end = since.unwrap_or(now) + time;
            if open > 0 {
                changed.await;
            } else if Instant::now() >= end {
                return;
            } else {
                sleep_until(end).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Option<Instant>)> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        open.0 -= 1;
        open.1 = Some(Instant::now());
        self.0.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use gateway_wire::Settings;
    use gateway_wire::policy::Who;

    use super::*;

    fn policy(timeouts: &[&str]) -> Policy {
        let timeouts = timeouts.iter().map(|t| (*t).to_owned().try_into().unwrap());
        let settings = Settings {
            channel_timeout: timeouts.collect(),
            ..Settings::default()
        };
        let (user, groups, source) = ("ann", &[][..], [127, 0, 0, 1].into());
        settings.policy(&Who {
            user,
            groups,
            source,
            destination: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_put_the_end_off() {
        let seconds = Duration::from_secs;
        let connection = Activity::new(None);
        let channel = Activity::new(Some(connection.clone()));
        let other = Activity::new(Some(connection.clone()));
        let policy = policy(&["session:shell=10s", "global=60s"]);
        let begun = Instant::now();
        let (own, all, ()) = tokio::join!(
            async {
                let time = channel.expired(&policy, kind::SHELL).await;
                (time, begun.elapsed().as_secs())
            },
            async {
                let time = other.expired(&policy, kind::DIRECT_TCP).await;
                (time, begun.elapsed().as_secs())
            },
            async {
                tokio::time::sleep(seconds(8)).await;
                channel.sent(1);
                tokio::time::sleep(seconds(8)).await;
                channel.received(1);
            }
        );
        assert_eq!(own, (seconds(10), 26));
        assert_eq!(all, (seconds(60), 76));
        assert_eq!(connection.meter.read().bytes_out, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_unused_while_nothing_is_open() {
        let seconds = Duration::from_secs;
        let channels = OpenChannels::default();
        let begun = Instant::now();
        let (at, ()) = tokio::join!(
            async {
                channels.unused(seconds(10)).await;
                begun.elapsed().as_secs()
            },
            async {
                tokio::time::sleep(seconds(9)).await;
                let one = channels.one();
                tokio::time::sleep(seconds(90)).await;
                let other = channels.one();
                drop(one);
                tokio::time::sleep(seconds(20)).await;
                drop(other);
            }
        );
        assert_eq!(at, 129);
    }
}
