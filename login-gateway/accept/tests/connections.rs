//! What becomes of connections to the SSH port: the real program, real sockets, the bytes that
//! balancers, clients and others send.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use gateway_wire::accept::FromAccept;
use support::{header, is_closed, is_open, settings, start};

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2p1\r\n";

/// All that a client sent, as whoever gets the socket reads it.
fn rest(mut stream: std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn without_a_balancer_no_byte_is_read() {
    let accept = start(&settings(&[], false));
    // A header from an address that may not send one is the client's own affair.
    for sent in [BANNER, &header()] {
        let mut client = accept.connect();
        client.write_all(sent).unwrap();
        let address = client.local_addr().unwrap();
        let (endpoints, stream) = accept.connection();
        assert_eq!(endpoints.source, address);
        assert_eq!(endpoints.destination, accept.ssh);
        drop(client);
        assert_eq!(rest(stream), sent);
    }
    let elsewhere = start(&settings(&["10.0.0.0/8", "2001:db8::/32"], true));
    let mut client = elsewhere.connect();
    client.write_all(&header()).unwrap();
    let (endpoints, stream) = elsewhere.connection();
    assert_eq!(endpoints.source, client.local_addr().unwrap());
    drop(client);
    assert_eq!(rest(stream), header());
}

#[test]
fn a_header_is_taken_to_its_last_byte_and_no_further() {
    let accept = start(&settings(&["127.0.0.0/8"], true));
    let mut client = accept.connect();
    client.write_all(&[&header(), BANNER].concat()).unwrap();
    let (endpoints, stream) = accept.connection();
    assert_eq!(endpoints.source, "192.0.2.7:51234".parse().unwrap());
    assert_eq!(endpoints.destination, "198.51.100.1:22".parse().unwrap());
    drop(client);
    assert_eq!(rest(stream), BANNER);

    // A balancer's own connection keeps its own addresses.
    let mut client = accept.connect();
    client
        .write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00")
        .unwrap();
    let (endpoints, stream) = accept.connection();
    assert_eq!(endpoints.source, client.local_addr().unwrap());
    drop(client);
    assert_eq!(rest(stream), b"");
}

#[test]
fn a_line_of_version_1_in_single_bytes_and_whole() {
    let accept = start(&settings(&["127.0.0.1/32"], true));
    let line = b"PROXY TCP6 2001:db8::2 2001:db8::1 51234 22\r\n";
    for pause in [Duration::from_millis(2), Duration::ZERO] {
        let mut client = accept.connect();
        if pause.is_zero() {
            client.write_all(&[line, BANNER].concat()).unwrap();
        } else {
            for byte in [line, BANNER].concat() {
                client.write_all(&[byte]).unwrap();
                std::thread::sleep(pause);
            }
        }
        let (endpoints, stream) = accept.connection();
        assert_eq!(endpoints.source, "[2001:db8::2]:51234".parse().unwrap());
        assert_eq!(endpoints.destination, "[2001:db8::1]:22".parse().unwrap());
        drop(client);
        assert_eq!(rest(stream), BANNER);
    }
}

#[test]
fn what_the_balancer_says_beside_is_passed_on() {
    let accept = start(&settings(&["127.0.0.1/32"], true));
    let mut client = accept.connect();
    let said = b"\xea\x00\x06\x01vpce1";
    let mut header = header();
    header.extend(said);
    header[15] += said.len() as u8;
    client.write_all(&[&header, BANNER].concat()).unwrap();
    let (FromAccept::Balanced(endpoints, said), Some(stream)) = accept.hear() else {
        panic!("nothing was passed on");
    };
    assert_eq!(endpoints.source, "192.0.2.7:51234".parse().unwrap());
    assert_eq!(said, [("vpc-endpoint".to_owned(), "vpce1".to_owned())]);
    stream.set_nonblocking(false).unwrap();
    drop(client);
    assert_eq!(rest(stream), BANNER);
}

#[test]
fn a_header_in_single_bytes() {
    let accept = start(&settings(&["127.0.0.1/32"], false));
    let mut client = accept.connect();
    for byte in header() {
        client.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let (endpoints, mut stream) = accept.connection();
    assert_eq!(endpoints.source, "192.0.2.7:51234".parse().unwrap());
    // Wherever the socket goes, it wakes its reader for one byte.
    client.write_all(b"S").unwrap();
    let mut one = [0];
    stream.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"S");
}

#[test]
fn no_header_where_one_may_be() {
    let accept = start(&settings(&["127.0.0.1/32"], false));
    for sent in [BANNER, b"PROXYTCP4 1 22\r\n", b"\r\n\r\nSSH"] {
        let mut client = accept.connect();
        client.write_all(sent).unwrap();
        let (endpoints, stream) = accept.connection();
        assert_eq!(endpoints.source, client.local_addr().unwrap());
        drop(client);
        assert_eq!(rest(stream), sent);
    }
    // A client that waits for the server to speak first is passed on when the time is over.
    let client = accept.connect();
    let (endpoints, _stream) = accept.connection();
    assert_eq!(endpoints.source, client.local_addr().unwrap());
}

#[test]
fn no_header_where_one_must_be() {
    let accept = start(&settings(&["127.0.0.1/32"], true));
    let bad: [&[u8]; 6] = [
        BANNER,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c000000000000",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c000000000000",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x040000",
    ];
    for sent in bad {
        let mut client = accept.connect();
        client.write_all(sent).unwrap();
        assert!(is_closed(&mut client), "{sent:?}");
    }
    // Ended in the middle, as a port scan does.
    for cut in [0, 1, 12, 27] {
        let mut client = accept.connect();
        client.write_all(&header()[..cut]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_closed(&mut client), "{cut}");
    }
    assert_eq!(accept.hear_all(), 0);
    let mut client = accept.connect();
    client.write_all(&header()).unwrap();
    accept.connection();
}

#[test]
fn a_slow_header_holds_up_nobody_and_is_not_awaited_for_ever() {
    let accept = start(&settings(&["127.0.0.1/32"], false));
    let mut slow = accept.connect();
    slow.write_all(&header()[..5]).unwrap();
    let mut slower = accept.connect();
    slower.write_all(&header()[..20]).unwrap();
    let mut client = accept.connect();
    client.write_all(&header()).unwrap();
    accept.connection();
    assert!(is_open(&slow) && is_open(&slower), "it waited");
    assert!(is_closed(&mut slow) && is_closed(&mut slower));
    // Waiting cost no processor time: the socket wakes only when the header is whole.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", accept.child.id())).unwrap();
    let ticks = |n: usize| stat.split(' ').nth(n).unwrap().parse::<u64>().unwrap();
    assert!(ticks(13) + ticks(14) < 50, "{stat}");
}

#[test]
fn of_too_many_headers_the_oldest_is_dropped() {
    let accept = start(&settings(&["127.0.0.1/32"], true));
    let mut clients: Vec<_> = (0..300)
        .map(|_| {
            let mut client = accept.connect();
            client.write_all(&header()[..5]).unwrap();
            client
        })
        .collect();
    assert!(is_closed(&mut clients[0]));
    assert!(is_open(&clients[299]), "closed by its deadline only");
    let last = clients.last_mut().unwrap();
    last.write_all(&header()[5..]).unwrap();
    accept.connection();
}

#[test]
fn a_listener_that_is_behind_loses_nothing() {
    let accept = start(&settings(&[], false));
    // More than the socket between the two holds; nobody reads it meanwhile.
    let clients: Vec<_> = (0..600).map(|_| accept.connect()).collect();
    let mut sources: Vec<_> = clients
        .iter()
        .map(|_| accept.connection().0.source)
        .collect();
    let mut expected: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
    sources.sort();
    expected.sort();
    assert_eq!(sources, expected);
}

#[test]
fn retired_it_finishes_what_it_has_begun() {
    let mut accept = start(&settings(&["127.0.0.1/32"], true));
    let mut client = accept.connect();
    client.write_all(&header()[..5]).unwrap();
    // Its turn comes after the first one's, so the first has been accepted by then.
    let mut second = accept.connect();
    second.write_all(&header()).unwrap();
    accept.connection();
    accept.retire();
    client.write_all(&header()[5..]).unwrap();
    let (endpoints, _) = accept.connection();
    assert_eq!(endpoints.source, "192.0.2.7:51234".parse().unwrap());
    assert_eq!(accept.exit_code(), Some(0));
}

#[test]
fn without_a_listener_it_ends() {
    let mut accept = start(&settings(&[], false));
    accept.link = None;
    assert!(accept.exit_code().is_some());
}

#[test]
fn while_draining_a_client_hears_why() {
    let accept = start(&settings(&["127.0.0.2/32"], true));
    let mut before = accept.connect();
    accept.connection();
    accept.tell(gateway_wire::accept::Health {
        draining: true,
        ..Default::default()
    });
    // Answered after what was said before.
    let drained = |n: u32| accept.until_counted(&format!("login_gateway_drained_total {n}"));
    drained(0);
    before.write_all(b"it is another's now").unwrap();

    let mut client = accept.connect();
    client.write_all(BANNER).unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    let packet = said.strip_prefix(b"SSH-2.0-slurm-login\r\n").unwrap();
    let text = String::from_utf8_lossy(packet);
    assert!(text.contains("takes no more logins"), "{text}");
    assert_eq!(accept.hear_all(), 0, "it was passed on");
    drained(1);

    // A crowd that says nothing and does not go: the port is still answered.
    let crowd: Vec<_> = (0..400).map(|_| accept.connect()).collect();
    let mut last = accept.connect();
    let mut said = Vec::new();
    last.read_to_end(&mut said).unwrap();
    assert!(said.starts_with(b"SSH-2.0-"));
    drop(crowd);

    // And back.
    accept.tell(gateway_wire::accept::Health::default());
    accept.until_counted("login_gateway_ready 0");
    let _client = accept.connect();
    accept.connection();
}
