//! Listening sockets: made once, kept over re-execution, lent to accept.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use gateway_wire::Settings;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on '{address}'")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A listening socket and the address it was configured with.
#[derive(Debug)]
pub struct Socket {
    /// As configured: its port may be 0.
    pub address: SocketAddr,
    /// The socket.
    pub fd: OwnedFd,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For SSH.
    pub ssh: Vec<Socket>,
    /// For health checks.
    pub health: Option<Socket>,
}

impl Sockets {
    /// The sockets that these settings ask for: those of `old` where the address is the same, new
    /// ones else. What is left in `old` is not needed.
    ///
    /// # Errors
    /// If a new one cannot be made; `old` then still holds what was not taken out of it.
    pub fn of(settings: &Settings, old: &mut Sockets) -> Result<Self, ListenError> {
        // New ones first: if one fails, nothing has been taken.
        let wanted = settings.listen.iter().chain(&settings.health_listen);
        let known = |a: &&SocketAddr| !old.all().any(|s| s.address == **a);
        let mut fresh = wanted
            .filter(known)
            .map(|a| Socket::listen(*a))
            .collect::<Result<Vec<_>, _>>()?;
        fresh.append(&mut old.ssh);
        fresh.extend(old.health.take());
        let mut take = |address: &SocketAddr| {
            let at = fresh.iter().position(|s| s.address == *address)?;
            Some(fresh.swap_remove(at))
        };
        Ok(Self {
            ssh: settings.listen.iter().filter_map(&mut take).collect(),
            health: settings.health_listen.as_ref().and_then(take),
        })
    }

    /// Takes in the sockets of another.
    pub fn merge(&mut self, other: Sockets) {
        self.ssh.extend(other.ssh);
        self.ssh.extend(other.health);
    }

    /// Every socket.
    pub fn all(&self) -> impl Iterator<Item = &Socket> {
        self.ssh.iter().chain(&self.health)
    }
}

impl Socket {
    /// Listens on an address with the kernel's longest queue. An IPv6 socket takes IPv6 alone, so
    /// that `0.0.0.0` and `[::]` may stand side by side.
    fn listen(address: SocketAddr) -> Result<Self, ListenError> {
        let make = || -> nix::Result<OwnedFd> {
            let family = if address.is_ipv6() {
                AddressFamily::Inet6
            } else {
                AddressFamily::Inet
            };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(family, SockType::Stream, flags, None)?;
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            if address.is_ipv6() {
                setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            }
            bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
            listen(&fd, Backlog::MAXCONN)?;
            Ok(fd)
        };
        match make() {
            Ok(fd) => Ok(Self { address, fd }),
            Err(errno) => Err(ListenError {
                address,
                source: errno.into(),
            }),
        }
    }

    /// Another descriptor of the same socket.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.fd.as_fd().try_clone_to_owned()
    }

    /// The address with its real port.
    pub fn bound(&self) -> SocketAddr {
        let bound = self.share().map(TcpListener::from);
        bound
            .and_then(|socket| socket.local_addr())
            .unwrap_or(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &[&str]) -> Settings {
        Settings {
            listen: listen.iter().map(|a| a.parse().unwrap()).collect(),
            ..Settings::default()
        }
    }

    #[test]
    fn known_addresses_keep_their_socket() {
        let mut old = Sockets::of(&settings(&["127.0.0.1:0"]), &mut Sockets::default()).unwrap();
        let number = old.ssh[0].fd.as_raw_fd();
        let bound = old.ssh[0].bound();
        assert_ne!(bound.port(), 0);

        let taken = settings(&["127.0.0.1:0", &bound.to_string()]);
        let error = Sockets::of(&taken, &mut old).unwrap_err();
        assert_eq!(error.to_string(), format!("listen on '{bound}'"));
        assert_eq!(old.ssh.len(), 1, "a failure takes nothing away");

        let both = settings(&["127.0.0.2:0", "127.0.0.1:0"]);
        let new = Sockets::of(&both, &mut old).unwrap();
        assert_eq!(new.ssh[1].fd.as_raw_fd(), number);
        assert_eq!((new.ssh.len(), old.ssh.len()), (2, 0));
    }

    #[test]
    fn both_families_on_one_port() {
        let first = Sockets::of(&settings(&["0.0.0.0:0"]), &mut Sockets::default()).unwrap();
        let port = first.ssh[0].bound().port();
        let both = settings(&[&format!("[::]:{port}")]);
        match Sockets::of(&both, &mut Sockets::default()) {
            Err(e) if e.source.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => {
                println!("skipped: no IPv6 here");
            }
            result => assert_eq!(result.unwrap().ssh[0].bound().port(), port),
        }
    }
}
