//! A controller that follows a script, and pushes as one sends them. The scripts are what slurmctld 24.11
//! and 26.05 were seen to do; whoever listens at the other end is not known here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use slurm_auth::{Claims, Context, Keyring, Verifier, message_hash, sign, verify};
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::{ConfigFile, Configuration};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};

pub const KEY: &[u8] = b"a key of the test, long enough to be safe\n";

/// What a controller does with a request.
pub enum Answer {
    Reply(MessageType, Vec<u8>),
    /// The same, in a version of the controller's own.
    ReplyIn(ProtocolVersion, MessageType, Vec<u8>),
    Raw(&'static [u8]),
    Close,
    Silence,
}

impl Answer {
    pub fn code(code: ReturnCode) -> Self {
        Self::Reply(MessageType::RETURN_CODE, code.encode())
    }

    pub fn files(list: &[(&str, Option<&str>)]) -> Self {
        Self::Reply(MessageType::RESPONSE_CONFIG, configuration(list).encode())
    }
}

pub fn configuration(list: &[(&str, Option<&str>)]) -> Configuration {
    let file = |(name, content): &(&str, Option<&str>)| ConfigFile {
        name: (*name).to_owned(),
        content: content.map(|text| text.as_bytes().to_vec()),
        execute: false,
    };
    Configuration {
        files: list.iter().map(file).collect(),
        spool_directory: None,
    }
}

/// Serves requests by a script; every request whose token and hash are good comes out of the
/// receiver.
pub fn controller(
    listener: TcpListener,
    mut script: impl FnMut(&Message) -> Answer + Send + 'static,
) -> Receiver<Message> {
    let (seen, requests) = channel();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_message(&mut stream);
            let Some(Credential::Slurm(token)) = &request.credential else {
                panic!("no token")
            };
            let claims = verify(token, &keys(KEY), Verifier { uid: 0, now: now() }).unwrap();
            let hash = message_hash::k12(request.message_type.0, &request.body);
            assert_eq!(claims.payload, hash);
            let answer = script(&request);
            let version = request.version;
            if seen.send(request).is_err() {
                return;
            }
            match answer {
                Answer::Reply(message_type, body) => {
                    let reply = Message {
                        version,
                        flags: 4,
                        message_type,
                        credential: None,
                        body,
                    };
                    stream.write_all(&reply.encode()).unwrap();
                }
                Answer::ReplyIn(version, message_type, body) => {
                    let reply = Message {
                        version,
                        flags: 0,
                        message_type,
                        credential: None,
                        body,
                    };
                    stream.write_all(&reply.encode()).unwrap();
                }
                Answer::Raw(bytes) => stream.write_all(bytes).unwrap(),
                Answer::Close => {}
                Answer::Silence => silent.push(stream),
            }
        }
    });
    requests
}

pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port that is free, and none that the kernel gives to a connection in the meantime
/// (`ip_local_port_range` begins at 32768).
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 31 + n) % 20_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until something is so; a test that waits longer than this has failed.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a push as a controller does and waits for the close.
pub fn push(port: u16, message: &Message) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&message.encode()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

/// A push of these files with SlurmUser's token, who is the user of this test.
pub fn good_push(list: &[(&str, Option<&str>)]) -> (Message, Claims) {
    push_of(nix::unistd::geteuid().as_raw(), list)
}

/// A push of these files with a token of this user, for this user.
pub fn push_of(uid: u32, list: &[(&str, Option<&str>)]) -> (Message, Claims) {
    let body = configuration(list).encode();
    let message_type = MessageType::RECONFIGURE_SACKD;
    let claims = Claims {
        cluster: Some("lab".to_owned()),
        context: Context::Auth,
        exp: now() + 60,
        gid: 0,
        host: "ctl".to_owned(),
        iat: now(),
        id: None,
        payload: message_hash::k12(message_type.0, &body).to_vec(),
        ruid: uid,
        uid,
        ver: 0x2d00,
    };
    let credential = Some(Credential::Slurm(sign(&claims, &keys(KEY)).unwrap()));
    let version = ProtocolVersion::V26_05;
    (
        Message {
            version,
            flags: 0,
            message_type,
            credential,
            body,
        },
        claims,
    )
}

pub fn keys(bytes: &[u8]) -> Keyring {
    Keyring::from_slurm_key(bytes).unwrap()
}

pub fn now() -> i64 {
    i64::try_from(
        std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs(),
    )
    .unwrap()
}

fn read_message(stream: &mut TcpStream) -> Message {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).unwrap();
    Message::decode(&frame).unwrap()
}
