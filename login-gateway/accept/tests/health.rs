//! The health endpoint of the real program: pages, numbers, limits, PROXY headers.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use gateway_wire::accept::Health;
use support::{SOON, connect, header, is_closed, is_open, settings, start};

#[test]
fn pages_follow_the_numbers() {
    let accept = start(&settings(&[], false));
    let status = |path: &str| {
        let answer = accept.ask(format!("GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n").as_bytes());
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("/healthz"), "200");
    assert_eq!(status("/readyz"), "503");
    accept.tell(Health {
        ready: true,
        draining: false,
        startups: 1,
        logins: 2,
        connections_total: 30,
        logins_total: 20,
        refused_total: 4,
        ..Health::default()
    });
    assert_eq!(status("/readyz"), "200");
    let page = accept.ask(b"GET /metrics HTTP/1.1\r\nHost: pod\r\n\r\n");
    for line in [
        "login_gateway_ready 1",
        "login_gateway_startups 1",
        "login_gateway_logins 2",
        "login_gateway_connections_total 30",
        "login_gateway_logins_total 20",
        "login_gateway_refused_total 4",
        "login_gateway_proxy_headers_total{result=\"proxied\"} 0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}: {page}");
    }
    accept.tell(Health::default());
    assert_eq!(status("/readyz"), "503");
    assert_eq!(status("/else"), "404");
}

#[test]
fn a_listener_that_does_not_answer_makes_it_not_ready() {
    let accept = start(&settings(&[], false));
    let ready = || {
        let answer = accept.ask(b"GET /readyz HTTP/1.1\r\nHost: pod\r\n\r\n");
        answer.split(' ').nth(1).unwrap() == "200"
    };
    accept.tell(Health {
        ready: true,
        ..Health::default()
    });
    assert!(ready());
    // Nobody hears what it asks.
    let end = std::time::Instant::now() + SOON;
    while ready() {
        assert!(std::time::Instant::now() < end, "still ready");
        std::thread::yield_now();
    }
    accept.hear_all();
    while !ready() {
        assert!(std::time::Instant::now() < end, "not ready");
    }
}

#[test]
fn behind_a_header_in_one_piece_and_in_many() {
    let accept = start(&settings(&["127.0.0.1/32"], true));
    let request = b"HEAD /healthz HTTP/1.0\r\n\r\n";
    let bytes = [&header()[..], request].concat();
    assert!(accept.ask(&bytes).starts_with("HTTP/1.1 200 "));
    assert!(accept.ask(request).starts_with("HTTP/1.1 200 "));
    let local = [b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", &request[..]].concat();
    assert!(accept.ask(&local).starts_with("HTTP/1.1 200 "));
    let mut stream = connect(accept.health);
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn bad_and_endless_requests() {
    let accept = start(&settings(&[], false));
    let check = |bytes: &[u8], status: &str| {
        let answer = accept.ask(bytes);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    };
    check(b"\x16\x03\x01\x02\x00\x01\x00", "400");
    check(b"SSH-2.0-x\r\n\r\n", "400");
    check(b"\r\n\r\n\0\r\nQUIT\n\x99\x00\x00\x00", "400");
    check(&[b'A'; 2048], "400");
    check(b"POST /healthz HTTP/1.1\r\n\r\n", "405");
    // Half a request is given two seconds; forty of them crowd nobody out.
    let mut slow: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = connect(accept.health);
            stream.write_all(b"GET /healthz HT").unwrap();
            stream
        })
        .collect();
    check(b"GET /healthz HTTP/1.1\r\n\r\n", "200");
    assert!(
        slow.last().is_some_and(is_open),
        "answered after the others only"
    );
    assert!(slow.iter_mut().all(is_closed));
    check(b"GET /healthz HTTP/1.1\r\n\r\n", "200");
}
