//! The PROXY protocol, versions 1 (a line of text) and 2, as HAProxy's `doc/proxy-protocol.txt` defines
//! it. What stands behind the addresses is in `proxy_tlv`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gateway_wire::accept::Endpoints;

use crate::proxy_tlv;

/// The first 12 bytes of every header (section 2.2).
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, and length: what comes before the addresses.
pub const FIXED: usize = 16;
/// Our own cap on what follows, addresses and TLVs, in bytes. The largest addresses take 216, and
/// a balancer's TLVs (identifiers, TLS details) some hundred.
pub const MAX_BODY: usize = 4096;
/// The longest header that is read.
pub const MAX_HEADER: usize = FIXED + MAX_BODY;

/// How far the bytes at the start of a connection lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So far it is a header; say again when this many bytes are there.
    NeedsMore(usize),
    /// The header is complete.
    Whole {
        /// What it says.
        header: Header,
        /// Its length in bytes; what follows belongs to the connection.
        length: usize,
    },
}

/// What a header says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Made by the balancer itself, such as a health check: the socket's own addresses hold.
    Local,
    /// Made on behalf of a client whose addresses cannot be told: the socket's own hold.
    Unspecified,
    /// Made on behalf of this client.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

impl Header {
    /// The endpoints of a connection whose socket has these.
    pub fn endpoints(self, socket: Endpoints) -> Endpoints {
        match self {
            Self::Local | Self::Unspecified => socket,
            Self::Proxied {
                source,
                destination,
            } => Endpoints {
                source,
                destination,
            },
        }
    }
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The peer speaks something else from the first bytes on.
    #[error("no PROXY signature")]
    Signature,
    /// A version other than 2, or a command other than LOCAL and PROXY.
    #[error("unknown PROXY version or command 0x{0:02x}")]
    Command(u8),
    /// No family of a stream connection.
    #[error("unknown PROXY address family 0x{0:02x}")]
    Family(u8),
    /// The body is longer than [`MAX_BODY`].
    #[error("PROXY header of {0} bytes")]
    TooLong(usize),
    /// The body is too short for the addresses of its family.
    #[error("PROXY header too short for its addresses")]
    TooShort,
    /// A line of version 1 that is none.
    #[error("malformed PROXY version 1 header")]
    Line,
    /// The checksum is another one.
    #[error("wrong checksum of a PROXY header")]
    Checksum,
}

/// Reads one header at the start of `bytes`; looks at nothing behind it.
///
/// Shape: a line of text (section 2.1); or 12-byte signature, version and command, family, big-endian
/// `u16` N, then N bytes: the addresses, then TLVs (section 2.2).
///
/// # Errors
/// [`HeaderError`], as soon as the bytes that are there rule a header out.
pub fn parse(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let start = bytes.len().min(LINE.len());
    if start > 0 && bytes[..start] == LINE[..start] {
        return line(bytes);
    }
    let start = bytes.len().min(SIGNATURE.len());
    if bytes[..start] != SIGNATURE[..start] {
        return Err(HeaderError::Signature);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Progress::NeedsMore(FIXED));
    };
    let [.., command, family, high, low] = *fixed;
    let body = usize::from(u16::from_be_bytes([high, low]));
    if command != LOCAL && command != PROXY {
        return Err(HeaderError::Command(command));
    }
    if body > MAX_BODY {
        return Err(HeaderError::TooLong(body));
    }
    let addresses = addresses_length(command, family)?;
    if body < addresses {
        return Err(HeaderError::TooShort);
    }
    let length = FIXED + body;
    let Some(body) = rest.get(..body) else {
        return Ok(Progress::NeedsMore(length));
    };
    if !proxy_tlv::is_sound(&bytes[..length], FIXED + addresses) {
        return Err(HeaderError::Checksum);
    }
    let header = match (command, family) {
        (LOCAL, _) => Header::Local,
        (_, TCP4) => proxied::<4>(&body[..addresses]).ok_or(HeaderError::TooShort)?,
        (_, TCP6) => proxied::<16>(&body[..addresses]).ok_or(HeaderError::TooShort)?,
        _ => Header::Unspecified,
    };
    Ok(Progress::Whole { header, length })
}

/// What the balancer says in a whole header beside the addresses: names and values.
pub fn said(header: &[u8]) -> Vec<(String, String)> {
    let [command, family] = match header.get(12..14) {
        Some(&[command, family]) if header.starts_with(&SIGNATURE) => [command, family],
        _ => return Vec::new(),
    };
    match addresses_length(command, family) {
        Ok(addresses) => proxy_tlv::said(header, FIXED + addresses),
        Err(_) => Vec::new(),
    }
}

/// How a header of version 1 begins.
const LINE: [u8; 6] = *b"PROXY ";
/// The shortest whole line, and the longest (section 2.1), with the line's end.
const LINES: (usize, usize) = (15, 107);

fn line(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let seen = &bytes[..bytes.len().min(LINES.1)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        let is_text = seen.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r'));
        return if is_text && seen.len() < LINES.1 {
            Ok(Progress::NeedsMore(LINES.0.max(seen.len() + 1)))
        } else {
            Err(HeaderError::Line)
        };
    };
    let text = seen[..end].strip_suffix(b"\r");
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    let words: Vec<&str> = text.ok_or(HeaderError::Line)?.split(' ').collect();
    let header = match words[1..] {
        ["UNKNOWN", ..] => Header::Unspecified,
        [family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address = |text: &str, port: &str| {
                let address: IpAddr = text.parse().ok()?;
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|_| digits)?;
                (address.is_ipv4() == (family == "TCP4"))
                    .then(|| SocketAddr::new(address.to_canonical(), port))
            };
            Header::Proxied {
                source: address(source, from).ok_or(HeaderError::Line)?,
                destination: address(destination, to).ok_or(HeaderError::Line)?,
            }
        }
        _ => return Err(HeaderError::Line),
    };
    let length = end + 1;
    Ok(Progress::Whole { header, length })
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// Bytes that the addresses take; a LOCAL header's family is to be ignored.
fn addresses_length(command: u8, family: u8) -> Result<usize, HeaderError> {
    match (command, family) {
        (LOCAL, _) | (_, UNSPECIFIED) => Ok(0),
        (_, TCP4) => Ok(12),
        (_, TCP6) => Ok(36),
        (_, UNIX_STREAM) => Ok(216),
        _ => Err(HeaderError::Family(family)),
    }
}

/// Source address, destination address, source port, destination port, all big-endian.
fn proxied<const N: usize>(bytes: &[u8]) -> Option<Header>
where
    [u8; N]: Address,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(Header::Proxied {
        source: SocketAddr::new(source.address(), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(destination.address(), u16::from_be_bytes(*destination_port)),
    })
}

trait Address {
    fn address(&self) -> IpAddr;
}

impl Address for [u8; 4] {
    fn address(&self) -> IpAddr {
        Ipv4Addr::from(*self).into()
    }
}

impl Address for [u8; 16] {
    /// An IPv4 client of a dual-stack balancer comes as `::ffff:a.b.c.d`; said as IPv4, so that
    /// rules about it hold.
    fn address(&self) -> IpAddr {
        IpAddr::from(Ipv6Addr::from(*self)).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// 192.0.2.7:51234 to 198.51.100.1:22, laid out by hand after section 2.2.
    const V4: [u8; 28] = [
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00,
        0x0c, 192, 0, 2, 7, 198, 51, 100, 1, 0xc8, 0x22, 0x00, 0x16,
    ];

    fn v6(source: [u16; 8]) -> Vec<u8> {
        let mut body: Vec<u8> = source.iter().flat_map(|part| part.to_be_bytes()).collect();
        body.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        body.extend([0xc8, 0x22, 0x00, 0x16]);
        header(PROXY, TCP6, &body)
    }

    #[test]
    fn what_headers_say() {
        let check = |bytes: &[u8], expected: Header| {
            let length = bytes.len();
            let whole = Ok(Progress::Whole {
                header: expected,
                length,
            });
            assert_eq!(parse(bytes), whole);
            let longer = [bytes, b"SSH-2.0-x\r\n"].concat();
            assert_eq!(parse(&longer), whole, "with the client's bytes behind");
        };
        check(&V4, proxied("192.0.2.7:51234", "198.51.100.1:22"));
        check(
            &v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]),
            proxied("[2001:db8::2]:51234", "[2001:db8::1]:22"),
        );
        check(
            &v6([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0207]),
            proxied("192.0.2.7:51234", "[2001:db8::1]:22"),
        );
        // TLVs: type, length, value (section 2.2.7); here PP2_TYPE_AWS with a VPC endpoint id.
        let mut tlvs = V4[FIXED..].to_vec();
        tlvs.extend([0xea, 0x00, 0x05, 0x01, b'v', b'p', b'c', b'e']);
        check(
            &header(PROXY, TCP4, &tlvs),
            proxied("192.0.2.7:51234", "198.51.100.1:22"),
        );
        check(&header(LOCAL, UNSPECIFIED, b""), Header::Local);
        check(&header(LOCAL, 0xff, b"ignored"), Header::Local);
        check(&header(PROXY, UNSPECIFIED, b"ignored"), Header::Unspecified);
        check(&header(PROXY, UNIX_STREAM, &[0; 216]), Header::Unspecified);
        check(
            &header(LOCAL, UNSPECIFIED, &vec![0; MAX_BODY]),
            Header::Local,
        );
    }

    #[test]
    fn lines_of_version_1() {
        let check = |text: &str, expected: Result<Header, HeaderError>| {
            let length = text.len();
            let whole = expected.map(|header| Progress::Whole { header, length });
            assert_eq!(parse(text.as_bytes()), whole, "{text}");
            assert_eq!(parse(format!("{text}SSH-2.0-x\r\n").as_bytes()), whole);
            if whole.is_ok() {
                for cut in 1..length {
                    let needed = if cut < 15 { 15 } else { cut + 1 };
                    let more = Ok(Progress::NeedsMore(needed));
                    assert_eq!(parse(&text.as_bytes()[..cut]), more, "{text} {cut}");
                }
            }
        };
        let v4 = proxied("192.0.2.7:51234", "198.51.100.1:22");
        check("PROXY TCP4 192.0.2.7 198.51.100.1 51234 22\r\n", Ok(v4));
        let v6 = proxied("[2001:db8::2]:1", "[2001:db8::1]:22");
        check("PROXY TCP6 2001:db8::2 2001:db8::1 1 22\r\n", Ok(v6));
        let mapped = proxied("192.0.2.7:1", "[2001:db8::1]:22");
        check(
            "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 22\r\n",
            Ok(mapped),
        );
        check("PROXY UNKNOWN\r\n", Ok(Header::Unspecified));
        check(
            "PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n",
            Ok(Header::Unspecified),
        );
        for bad in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 22\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 65536\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 22\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 22 3\r\n",
            "PROXY TCP4 192.0.2.7  198.51.100.1 1 22\r\n",
            "PROXY TCP4 2001:db8::2 2001:db8::1 1 22\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 22\r\n",
            "PROXY tcp4 192.0.2.7 198.51.100.1 1 22\r\n",
            "PROXY \r\n",
        ] {
            check(bad, Err(HeaderError::Line));
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        check(&long, Err(HeaderError::Line));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        check(&longest, Ok(Header::Unspecified));
        assert_eq!(parse(b"PROXY UNKNOWN \0"), Err(HeaderError::Line));
        assert_eq!(parse(b"PROXYTCP4"), Err(HeaderError::Signature));
    }

    #[test]
    fn truncated_at_every_length_it_says_how_much_is_missing() {
        for whole in [V4.to_vec(), v6([1; 8]), header(LOCAL, 0, b"12345")] {
            for cut in 0..whole.len() {
                let needed = if cut < FIXED { FIXED } else { whole.len() };
                assert_eq!(
                    parse(&whole[..cut]),
                    Ok(Progress::NeedsMore(needed)),
                    "{cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_header() {
        let check = |bytes: &[u8], expected: HeaderError| {
            assert_eq!(parse(bytes), Err(expected), "{bytes:?}");
        };
        check(b"SSH-2.0-OpenSSH_9.2p1\r\n", HeaderError::Signature);
        check(b"S", HeaderError::Signature);
        for at in 0..SIGNATURE.len() {
            let mut bytes = V4;
            bytes[at] ^= 1;
            check(&bytes, HeaderError::Signature);
            check(&bytes[..=at], HeaderError::Signature);
        }
        check(&header(0x11, TCP4, &[0; 12]), HeaderError::Command(0x11));
        check(&header(0x22, TCP4, &[0; 12]), HeaderError::Command(0x22));
        check(&header(PROXY, 0x12, &[0; 12]), HeaderError::Family(0x12));
        check(&header(PROXY, 0x41, &[0; 12]), HeaderError::Family(0x41));
        check(&header(PROXY, TCP4, &[0; 11]), HeaderError::TooShort);
        check(&header(PROXY, TCP6, &[0; 35]), HeaderError::TooShort);
        check(
            &header(LOCAL, 0, &vec![0; 4097]),
            HeaderError::TooLong(4097),
        );
    }

    #[test]
    fn arbitrary_bytes_never_lead_past_their_end() {
        // A fixed sequence (xorshift64), so that a failure can be seen again.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..100_000 {
            let mut bytes = v6([1; 8]);
            bytes.truncate(next() as usize % (bytes.len() + 1));
            for _ in 0..next() % 4 {
                // Behind the signature, or most cases would end there.
                let at = SIGNATURE.len() + next() as usize % 8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = next() as u8;
                }
            }
            match parse(&bytes) {
                Ok(Progress::NeedsMore(total)) => {
                    assert!(total > bytes.len() && total <= MAX_HEADER, "{bytes:?}");
                }
                Ok(Progress::Whole { length, .. }) => assert!(length <= bytes.len(), "{bytes:?}"),
                Err(_) => {}
            }
        }
    }
}
