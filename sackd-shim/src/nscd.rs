//! Whether the daemon behind libc's user look-ups is there: directoryd, or nscd. libc falls back
//! to local files without a word when it is not, and what it then says of a user is no answer.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{Gid, Group, Uid, User};

/// Where glibc looks (`nscd/nscd-client.h`).
const SOCKET: &str = "/var/run/nscd/socket";
/// After one failed connection glibc asks the daemon again only at the 101st look-up of the same
/// kind in a process (`NSS_NSCD_RETRY` in `nss/nsswitch.h`).
const RETRY: u32 = 101;

/// Whether there has ever been one: a host without any is taken as it is.
static SEEN: AtomicBool = AtomicBool::new(false);

/// How the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nscd {
    /// It answers.
    There,
    /// It has answered before and does not now.
    Away,
    /// This host has none.
    None,
}

/// Connects to the daemon to see.
pub fn state() -> Nscd {
    if UnixStream::connect(SOCKET).is_ok() {
        SEEN.store(true, Ordering::Relaxed);
        Nscd::There
    } else if SEEN.load(Ordering::Relaxed) {
        Nscd::Away
    } else {
        Nscd::None
    }
}

/// Makes libc ask the daemon with the next look-up, even if it was away a moment ago. Look-ups of
/// root are cheap: a microsecond from the daemon's tables, ten from /etc/passwd.
pub fn make_libc_ask_again() {
    for _ in 0..RETRY {
        let _ = User::from_uid(Uid::from_raw(0));
        let _ = Group::from_gid(Gid::from_raw(0));
    }
}
