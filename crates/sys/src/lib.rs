//! Kernel calls that the daemons share, each behind a safe function: spawning with another
//! identity, passing descriptors, peer credentials, ptys, seccomp. No policy lives here.
//!
//! This is the only room with `unsafe` towards the kernel; each block is one call.

pub mod clock;
pub mod fds;
pub mod identity;
pub mod inherit;
pub mod landlock;
pub mod listen;
pub mod local_time;
pub mod login_records;
pub mod memfd;
pub mod peer;
pub mod process;
pub mod pty;
pub mod sandbox;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod spawn;
