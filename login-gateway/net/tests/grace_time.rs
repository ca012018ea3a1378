//! A client that does not log in: it is told, and net ends, however busy the client looks (T7).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gateway_wire::Settings;
use gateway_wire::accept::Endpoints;
use gateway_wire::monitor::{FromNet, Serve};

#[test]
fn a_client_that_does_not_log_in_is_closed() {
    for says in [&b""[..], b"SSH-2.0-slow\r\n"] {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            user: None,
            login_grace_time: Duration::from_millis(300),
            ..Settings::default()
        };
        let (mut child, _output, monitor) = support::start(&mut settings, folder.path());
        let mut buffer = [0; 256];
        let mut next = || {
            let (n, _) = sys::fds::recv_with_fds(&monitor, &mut buffer).unwrap();
            gateway_wire::decode::<FromNet>(&buffer[..n])
        };
        assert_eq!(next(), Ok(FromNet::Sandboxed));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let served = OwnedFd::from(listener.accept().unwrap().0);
        let endpoints = Endpoints {
            source: client.local_addr().unwrap(),
            destination: address,
        };
        let serve = gateway_wire::encode(&Serve { endpoints }).unwrap();
        sys::fds::send_with_fds(&monitor, &serve, &[served.as_fd()]).unwrap();
        drop(served);
        client.write_all(says).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut heard = Vec::new();
        // The end of the connection, not the read's own limit.
        let ended = client.read_to_end(&mut heard);
        assert!(ended.is_ok(), "{ended:?}");
        assert!(heard.starts_with(b"SSH-2.0-slurm-login\r\n"));
        assert!(
            matches!(next(), Ok(FromNet::Ended { reason, .. }) if reason.contains("grace time"))
        );
        assert!(child.wait().unwrap().success());
    }
}
