//! The first line of a connection, by clients that are none.

use std::io::{Read, Write};
use std::net::TcpStream;

use tests::{SOON, Server};

use crate::both::{case, same};

/// All that the server says to somebody who says this and waits.
fn answer(server: &Server, said: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(said).unwrap();
    let mut heard = Vec::new();
    // sshd leaves what it has not read, so its kernel may reset the connection behind the answer.
    let _ = stream.read_to_end(&mut heard);
    let heard = String::from_utf8_lossy(&heard).into_owned();
    let (greeting, answer) = heard.split_once("\r\n").unwrap();
    assert!(greeting.starts_with("SSH-2.0-"), "{heard}");
    answer.to_owned()
}

case!(of_other_protocols, |server| {
    for (said, what) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], "http"),
        (b"\n", "an empty line"),
        (b"\r\n", "another"),
        (b"SSH-1.5-HALLO\n", "version 1"),
        (b"SSH-3.0-x\r\n", "version 3"),
        (b"SSH-2.0\r\n", "no software"),
        (b"SSH-x.y-z\r\n", "no version"),
        (b"SSH-2.0-a\0b\r\n", "a zero"),
        (b"EHLO there\r\n", "mail"),
    ] {
        let heard = answer(server, said);
        assert!(heard.ends_with(".\r\n"), "{what}: {heard}");
        same(server, what, heard);
    }
    if server.whose == tests::Whose::Ours {
        let log = server.log();
        assert!(log.contains("no SSH greeting: 'GET / HTTP/1.0'"), "{log}");
    }
});

case!(that_is_too_long, |server| {
    // sshd's own limit is 8 KiB.
    let heard = answer(server, &[b'x'; 9000]);
    assert!(
        heard.is_empty() || heard == "Invalid SSH identification string.\r\n",
        "{heard}"
    );
    let long = [&b"SSH-2.0-"[..], &[b'x'; 9000], b"\r\n"].concat();
    let heard = answer(server, &long);
    assert!(
        heard.is_empty() || heard == "Invalid SSH identification string.\r\n",
        "{heard}"
    );
});
