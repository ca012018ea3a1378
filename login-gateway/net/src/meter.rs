//! What a connection has carried: bytes and channels by kind, told to the monitor now and then, so that
//! a long login is counted while it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use gateway_wire::monitor::FromNet;
use gateway_wire::numbers::{Channel, Traffic};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::monitor_link::MonitorLink;

/// Least time between two reports.
const PAUSE: Duration = Duration::from_secs(5);

/// The numbers of a connection.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    opened: [AtomicU32; Channel::ALL.len()],
    open: [AtomicU32; Channel::ALL.len()],
    changed: Notify,
}

/// A channel that is counted as open while this is kept.
#[derive(Debug)]
pub struct Metered {
    meter: Arc<Meter>,
    channel: Option<Channel>,
}

impl Meter {
    /// Counts bytes from the client.
    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Counts bytes to the client.
    pub fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Counts a channel of this kind, as `channel-timeout` names it.
    pub fn open(self: &Arc<Self>, kind: &str) -> Metered {
        let channel = Channel::of(kind);
        if let Some(channel) = channel {
            self.opened[channel as usize].fetch_add(1, Ordering::Relaxed);
            self.open[channel as usize].fetch_add(1, Ordering::Relaxed);
            self.changed.notify_one();
        }
        Metered {
            meter: self.clone(),
            channel,
        }
    }

    /// The numbers now.
    pub fn read(&self) -> Traffic {
        let all = |of: &[AtomicU32; Channel::ALL.len()]| {
            std::array::from_fn(|at| of[at].load(Ordering::Relaxed))
        };
        Traffic {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            opened: all(&self.opened),
            open: all(&self.open),
        }
    }

    /// Tells the monitor of changes, until it is gone.
    pub async fn report(self: Arc<Self>, monitor: Arc<MonitorLink>) {
        let mut told = Traffic::default();
        loop {
            self.changed.notified().await;
            let traffic = self.read();
            if traffic != told {
                if monitor.tell(FromNet::Traffic(traffic)).await.is_err() {
                    return;
                }
                told = traffic;
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some(channel) = self.channel {
            self.meter.open[channel as usize].fetch_sub(1, Ordering::Relaxed);
            self.meter.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_wire::timeout::kind;

    use super::*;

    #[test]
    fn channels_are_counted_while_they_are_open() {
        let meter = Arc::<Meter>::default();
        let shell = meter.open(kind::SHELL);
        let sftp = meter.open("session:subsystem:sftp");
        drop(meter.open(kind::SESSION));
        drop(shell);
        meter.received(3);
        let read = meter.read();
        assert_eq!(read.opened[..3], [1, 0, 1]);
        assert_eq!(read.open[..3], [0, 0, 1]);
        assert_eq!((read.bytes_in, read.bytes_out), (3, 0));
        drop(sftp);
        assert_eq!(meter.read().open, [0; Channel::ALL.len()]);
    }
}
