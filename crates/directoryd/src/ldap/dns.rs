//! SRV records (RFC 2782), asked of the servers of /etc/resolv.conf. Names of hosts are libc's matter.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use slurm_wire::dns::{Answer, Place, answer, question};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Where the servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Port of DNS.
const PORT: u16 = 53;
/// Patience with one server, each time.
const STEP: Duration = Duration::from_secs(1);
/// Times that each server is asked.
const TRIES: usize = 2;
/// Most servers asked, as in libc.
const MOST: usize = 3;
/// There is no such name (RFC 1035 section 4.1.1).
const NO_SUCH_NAME: u8 = 3;
/// Largest answer read over UDP, in bytes.
const MAX_PACKET: usize = 4096;

/// The places of a service, in the order in which they are to be tried; none if DNS knows of none.
///
/// # Errors
/// If no server says anything.
pub async fn places(service: &str) -> io::Result<Vec<Place>> {
    // A small file of this machine: reading it holds nobody up.
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let servers = servers(&text);
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..TRIES {
        for server in &servers {
            let asked = timeout(STEP, ask(*server, service)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(Answer::Places(places)) => return Ok(shared(places)),
                Ok(Answer::Failed(NO_SUCH_NAME)) => return Ok(Vec::new()),
                Ok(Answer::Failed(code)) => {
                    last = io::Error::other(format!("the server says code {code}"));
                }
                Ok(Answer::Truncated) => last = io::ErrorKind::InvalidData.into(),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// The servers of `resolv.conf(5)`.
fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        // An IPv6 address may name its interface, which the standard library does not read here.
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    });
    let mut servers: Vec<SocketAddr> = named.take(MOST).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
    }
    servers
}

/// Those of one priority in an order by chance, larger weights rather first.
fn shared(mut places: Vec<Place>) -> Vec<Place> {
    let mut ordered = Vec::with_capacity(places.len());
    while let Some(first) = places.first() {
        let priority = first.priority;
        let alike = places.iter().take_while(|place| place.priority == priority);
        // One more each, so that those without a weight are not last for ever.
        let weights: Vec<u64> = alike.map(|place| u64::from(place.weight) + 1).collect();
        let mut left = random() % weights.iter().sum::<u64>();
        let at = weights.iter().position(|weight| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        ordered.push(places.remove(at.unwrap_or_default()));
    }
    ordered
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the order is that of the answer.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<Answer> {
    let id = random() as u16;
    let question =
        question(id, name).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let size = socket.recv(&mut buffer).await?;
        // Another's answer, or one to an earlier question: wait for ours.
        match answer(id, &buffer[..size]) {
            Ok(Answer::Truncated) => return ask_over_tcp(server, id, &question).await,
            Ok(answer) => return Ok(answer),
            Err(_) => {}
        }
    }
}

/// RFC 1035 section 4.2.2: the same with a length before it.
async fn ask_over_tcp(server: SocketAddr, id: u16, question: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream
        .write_all(&[&length.to_be_bytes(), question].concat())
        .await?;
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    answer(id, &packet).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let list = |text: &str| {
            servers(text)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let text = "# c\nsearch x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver x\n";
        assert_eq!(list(text), ["10.0.0.1:53", "[fe80::1]:53"]);
        assert_eq!(list(""), ["127.0.0.1:53"]);
    }

    #[test]
    fn priorities_come_first_and_weights_share() {
        let place = |priority, weight, name: &str| Place {
            priority,
            weight,
            port: 389,
            target: name.to_owned(),
        };
        let mut first = Vec::new();
        for _ in 0..300 {
            let places = vec![place(1, 9, "a"), place(1, 0, "b"), place(2, 0, "c")];
            let order: Vec<String> = shared(places).into_iter().map(|p| p.target).collect();
            assert_eq!(order[2], "c");
            first.push(order[0].clone());
        }
        // Nine to one: that one of them never comes first has a chance of 1 to 10^13.
        assert!(first.contains(&"a".to_owned()) && first.contains(&"b".to_owned()));
    }
}
