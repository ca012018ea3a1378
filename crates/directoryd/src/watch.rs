//! What happens by the clock: local files are looked at, maps get their life sign, and a stalled
//! accept loop ends the daemon.
//!
//! A frozen daemon is worse than none: programs would wait ten seconds for each look-up, where a dead
//! one's socket refuses at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{
    core::Core,
    local::{Local, Stamp},
};

/// How many seconds without a turn of the loop are a stall.
const STALL: u32 = 10;
/// Seconds between two life signs of the maps.
const BEAT: u32 = 5;

/// Reads local files when they change, looking each second, or at once when `bell` rings.
pub fn local_files(core: &Core, bell: &mpsc::Receiver<()>) {
    let (passwd, group) = (&core.config.passwd_file, &core.config.group_file);
    let mut known = None;
    loop {
        let stamp = [passwd, group].map(|path| Stamp::of(path));
        if known != Some(stamp) {
            match Local::read(passwd, group) {
                Ok(local) => core.set_local(local),
                // In the middle of being replaced, or gone: what was read stays.
                Err(error) => {
                    tracing::error!(
                        event = "local.unreadable",
                        error = service::exit::chain(&error)
                    );
                }
            }
            known = Some(stamp);
        }
        match bell.recv_timeout(Duration::from_secs(1)) {
            Ok(()) => known = None,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Renews the maps' life signs; aborts the process when `turns` stands still.
pub fn watchdog(core: &Core, turns: &Arc<AtomicU64>) {
    let mut stall = Stall::default();
    for second in 0u32.. {
        if second % BEAT == 0 {
            core.present.beat();
            core.keep_files();
        }
        if stall.is_over(turns.load(Ordering::Relaxed)) {
            tracing::error!(event = "nscd.stalled", seconds = STALL, action = "abort");
            std::process::abort();
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Counts our own seconds without progress, not the clock's: a machine that slept has not stalled.
#[derive(Debug, Default)]
struct Stall {
    last: u64,
    seconds: u32,
}

impl Stall {
    fn is_over(&mut self, turns: u64) -> bool {
        if turns == self.last {
            self.seconds += 1;
        } else {
            *self = Self {
                last: turns,
                seconds: 0,
            };
        }
        self.seconds >= STALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_standing_still_is_a_stall() {
        let mut stall = Stall::default();
        assert!((1..100).all(|turn| !stall.is_over(turn)));
        assert!((1..STALL).all(|_| !stall.is_over(99)));
        assert!(stall.is_over(99));
    }
}
