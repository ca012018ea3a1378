//! A real sender of PROXY headers of both versions in front of the real program: HAProxy.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use support::{connect, settings, start};

struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free(host: &str) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn clients_health_checks_and_http_through_haproxy() {
    let version = Command::new("haproxy").arg("-v").output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: clients_health_checks_and_http_through_haproxy needs haproxy");
        return;
    }
    let accept = start(&settings(&["127.0.0.0/8"], true));
    let (v4, v6, http) = (free("127.0.0.1"), free("::1"), free("127.0.0.1"));
    let old = ["127.0.0.1", "::1"].map(free);
    // The check is a LOCAL header and nothing behind it; the options add TLVs (CRC32c, unique id).
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen ssh\n  bind {v4}\n  bind {v6}\n  unique-id-format %pid\n\
         \x20 server one {ssh} check inter 100ms send-proxy-v2 \
         proxy-v2-options crc32c,unique-id\n\
         listen old\n  bind {old4}\n  bind {old6}\n  server one {ssh} send-proxy\n\
         listen http\n  bind {http}\n  server one {health} send-proxy-v2\n",
        ssh = accept.ssh,
        health = accept.health,
        old4 = old[0],
        old6 = old[1],
    );
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), text).unwrap();
    let command = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(config.path())
        .stdout(Stdio::null())
        .spawn();
    let _balancer = Balancer(command.unwrap());

    // The first health check comes by itself, from the balancer's own address.
    let (check, _) = accept.connection();
    assert_eq!(check.destination, accept.ssh);

    for address in [v4, v6, old[0], old[1]] {
        let mut client = connect(address);
        client.write_all(b"SSH-2.0-client\r\n").unwrap();
        let (endpoints, mut stream) = loop {
            let (endpoints, stream) = accept.connection();
            if endpoints.destination != accept.ssh {
                break (endpoints, stream);
            }
        };
        assert_eq!(endpoints.source, client.local_addr().unwrap());
        assert_eq!(endpoints.destination, address);
        let mut line = [0; 16];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"SSH-2.0-client\r\n");
        stream.write_all(b"SSH-2.0-server\r\n").unwrap();
        client.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"SSH-2.0-server\r\n");
    }

    let counted = |result: &str, number: u64| {
        let name = "login_gateway_proxy_headers_total";
        format!("{name}{{result=\"{result}\"}} {number}")
    };
    accept.until_counted(&counted("proxied", 4));
    let mut client = connect(http);
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    client.read_to_string(&mut page).unwrap();
    let has = |result: &str, number: u64| {
        let line = counted(result, number);
        page.lines().any(|l| l == line)
    };
    assert!(has("proxied", 4) && has("malformed", 0), "{page}");
    assert!(!has("local", 0), "{page}");
}
