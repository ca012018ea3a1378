//! New connections, and how many of them may be unfinished.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gateway_wire::accept::Endpoints;

use super::Server;
use crate::health_check::HealthCheck;
use crate::pending::Pending;

/// Connections whose header is awaited, at one time; above that the oldest is closed.
const MAX_PENDING: usize = 256;
/// Connections to the health endpoint, at one time; above that the oldest is closed.
const MAX_CHECKS: usize = 32;
/// Connections accepted before other work has its turn again.
const BURST: usize = 64;
/// Pause after the system had no descriptor or memory for another connection.
const PAUSE: Duration = Duration::from_millis(100);

impl Server {
    pub(super) fn accept_ssh(&mut self) {
        let now = Instant::now();
        let mut accepted = Vec::new();
        let out_of_room = self.ssh.iter().any(|l| !accept(l, &mut accepted));
        self.pause_if(out_of_room, now);
        for (stream, endpoints) in accepted {
            let peer = endpoints.source.ip();
            if !self.proxy.from.iter().any(|net| net.contains(&peer)) {
                self.admit(endpoints, Vec::new(), stream);
                continue;
            }
            if self.pending.len() >= MAX_PENDING
                && let Some(oldest) = self.pending.pop_front()
            {
                self.untold.crowded_out += 1;
                self.log_closed(
                    "proxy.closed",
                    oldest.peer(),
                    "too many PROXY headers awaited",
                );
            }
            self.pending.push_back(Pending::new(stream, endpoints, now));
        }
    }

    pub(super) fn accept_health(&mut self) {
        let now = Instant::now();
        let mut accepted = Vec::new();
        let out_of_room = self.health.iter().any(|l| !accept(l, &mut accepted));
        self.pause_if(out_of_room, now);
        for (stream, _) in accepted {
            if self.checks.len() >= MAX_CHECKS {
                self.checks.pop_front();
            }
            self.checks.push_back(HealthCheck::new(stream, now));
        }
    }

    pub(super) fn pause_if(&mut self, out_of_room: bool, now: Instant) {
        if out_of_room {
            tracing::warn!(
                event = "accept.paused",
                "no descriptor or memory for a connection"
            );
            self.paused_until = Some(now + PAUSE);
        }
    }
}

/// Whether the system has no descriptor or memory at the moment. Descriptors on their way between
/// processes count too, those of all processes of the user together: `ETOOMANYREFS`, unix(7).
pub(super) fn out_of_room(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().unwrap_or_default(),
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ETOOMANYREFS
    )
}

/// Takes what waits at a listening socket; `false` if the system has no room for it.
fn accept(listener: &TcpListener, accepted: &mut Vec<(TcpStream, Endpoints)>) -> bool {
    for _ in 0..BURST {
        let (stream, source) = match listener.accept() {
            Ok(new) => new,
            Err(error) => return !out_of_room(&error),
        };
        // Either fails only for a connection that has already ended.
        let (Ok(destination), Ok(())) = (stream.local_addr(), stream.set_nonblocking(true)) else {
            continue;
        };
        let canonical = |mut address: std::net::SocketAddr| {
            address.set_ip(address.ip().to_canonical());
            address
        };
        let endpoints = Endpoints {
            source: canonical(source),
            destination: canonical(destination),
        };
        accepted.push((stream, endpoints));
    }
    true
}
