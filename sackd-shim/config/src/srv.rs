//! Finding controllers by DNS: `_slurmctld._tcp` in the domains of /etc/resolv.conf, asked of the
//! servers that stand there. A client of this one question; everything else goes through libc.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use slurm_wire::dns::{self, Answer, Place};

use crate::address::Controller;
use crate::error::ConfigError;

/// What the controllers are registered as.
const SERVICE: &str = "_slurmctld._tcp";
/// Where the servers and domains stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Port of DNS.
const PORT: u16 = 53;
/// Patience with one server, each time.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Times that each server is asked.
const TRIES: usize = 2;
/// Code of an answer that says there is no such name (RFC 1035 section 4.1.1).
const NO_SUCH_NAME: u8 = 3;

/// Whom to ask for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    domains: Vec<String>,
}

impl Resolver {
    /// What /etc/resolv.conf says now.
    pub fn of_system() -> Self {
        Self::of_file(Path::new(RESOLV_CONF))
    }

    fn of_file(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut resolver = Self::parse(&text);
        if let Ok(domain) = std::env::var("LOCALDOMAIN") {
            resolver.domains = domain.split_whitespace().map(str::to_owned).collect();
        }
        resolver
    }

    /// `resolv.conf(5)`: up to three servers, the last `search` or `domain` line.
    fn parse(text: &str) -> Self {
        let (mut servers, mut domains) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(server);
                    servers.extend(address.filter(|_| servers.len() < 3));
                }
                Some("search" | "domain") => {
                    let plain = |word: &&str| !word.starts_with(['#', ';']);
                    domains = words.take_while(plain).map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        Self { servers, domains }
    }

    /// The controllers, in the order they are to be asked: the first domain that has any counts,
    /// the bare name is tried last.
    ///
    /// # Errors
    /// [`ConfigError::NoService`] if no domain has any, [`ConfigError::Resolver`] if nobody answers.
    pub fn controllers(&self) -> Result<Vec<Controller>, ConfigError> {
        let names = self
            .domains
            .iter()
            .map(|domain| format!("{SERVICE}.{}", domain.trim_matches('.')))
            .chain([SERVICE.to_owned()]);
        let mut silent = None;
        for name in names {
            match self.places(&name) {
                Ok(places) if places.is_empty() => {}
                Ok(places) => {
                    return places
                        .iter()
                        .map(|place| Controller::parse(&format!("{}:{}", place.target, place.port)))
                        .collect();
                }
                Err(error) => silent = Some(error),
            }
        }
        Err(silent.unwrap_or_else(|| ConfigError::NoService(self.domains.join(" "))))
    }

    fn places(&self, name: &str) -> Result<Vec<Place>, ConfigError> {
        let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
        for _ in 0..TRIES {
            for server in &self.servers {
                match ask(*server, name) {
                    Ok(Answer::Places(places)) => return Ok(places),
                    Ok(Answer::Failed(NO_SUCH_NAME)) => return Ok(Vec::new()),
                    Ok(Answer::Failed(code)) => {
                        last = std::io::Error::other(format!("the server says code {code}"));
                    }
                    Ok(Answer::Truncated) => last = std::io::ErrorKind::InvalidData.into(),
                    Err(error) => last = error,
                }
            }
        }
        Err(ConfigError::Resolver {
            name: name.to_owned(),
            source: last,
        })
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    // An IPv6 address may name its interface, which the standard library does not read here.
    let address: IpAddr = text.split('%').next()?.parse().ok()?;
    Some(SocketAddr::new(address, PORT))
}

/// Asks one server, over TCP if the answer does not fit.
fn ask(server: SocketAddr, name: &str) -> std::io::Result<Answer> {
    let id = crate::worker::random() as u16;
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let question = dns::question(id, name).ok_or_else(invalid)?;
    let deadline = Instant::now() + TIMEOUT;
    let any: IpAddr = if server.is_ipv4() {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let mut buffer = vec![0; usize::from(dns::UDP_LIMIT)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let n = socket.recv(&mut buffer)?;
        // Another's answer, or one to an earlier question: wait for ours.
        match dns::answer(id, &buffer[..n]) {
            Ok(Answer::Truncated) => return ask_over_tcp(server, id, &question),
            Ok(answer) => return Ok(answer),
            Err(_) => {}
        }
    }
}

/// RFC 1035 section 4.2.2: the same with a length before it.
fn ask_over_tcp(server: SocketAddr, id: u16, question: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet)?;
    dns::answer(id, &packet).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let resolver = Resolver::parse(
            "# c\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver x\n\
             search a.example  b.example\noptions ndots:5\n",
        );
        let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fe80::1]:53"]);
        assert_eq!(resolver.domains, ["a.example", "b.example"]);
        let none = Resolver::parse("");
        assert_eq!(none.servers, [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }

    /// A server that answers every UDP question so, and TCP ones with `tcp`.
    fn dns_server(udp: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let question = &buffer[..n];
                let name: String = question[12..n - 16]
                    .iter()
                    .map(|b| if *b < 32 { '.' } else { char::from(*b) })
                    .collect();
                let mut reply = udp(&name);
                // A stray answer first: it must not be taken for ours.
                let _ = socket.send_to(&[0xff; 12], from);
                reply[..2].copy_from_slice(&question[..2]);
                let _ = socket.send_to(&reply, from);
            }
        });
        address
    }

    fn packet(code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = vec![
            0,
            0,
            0x81,
            0x80 | code,
            0,
            0,
            0,
            records.len() as u8,
            0,
            0,
            0,
            0,
        ];
        for (port, target) in records {
            packet.extend(b"\0\0\x21\0\x01\0\0\0\x3c\0");
            packet.push(6 + target.len() as u8);
            packet.extend([0, 1, 0, 0]);
            packet.extend(port.to_be_bytes());
            packet.extend(*target);
        }
        packet
    }

    #[test]
    fn the_first_domain_with_controllers_counts() {
        let address = dns_server(|name| {
            if name.contains("second") {
                packet(0, &[(7000, b"\x03ctl\x06second\0"), (6817, b"\x02c2\0")])
            } else {
                packet(NO_SUCH_NAME, &[])
            }
        });
        let resolver = |domains: &[&str]| Resolver {
            servers: vec![address],
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        };
        let found = resolver(&["first", "second."]).controllers().unwrap();
        let names: Vec<&str> = found.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["ctl.second:7000", "c2:6817"]);
        let error = resolver(&["first"]).controllers().unwrap_err();
        assert!(matches!(error, ConfigError::NoService(_)), "{error}");
    }

    #[test]
    fn a_server_that_fails_is_told_from_no_service() {
        let address = dns_server(|_| packet(2, &[]));
        let resolver = Resolver {
            servers: vec![address],
            domains: vec![],
        };
        let error = resolver.controllers().unwrap_err();
        assert!(matches!(error, ConfigError::Resolver { .. }), "{error}");
    }
}
