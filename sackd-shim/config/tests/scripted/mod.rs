//! A real `sackd-shim-config` between a controller that follows a script and a signer made of
//! `slurm-auth`. The scripts are what slurmctld 24.11 and 26.05 were seen to do.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use slurm_auth::{Claims, Context, Keyring, Verifier, message_hash, sign, verify};
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::{ConfigFile, Configuration};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};
use slurm_wire::sack::{ANYBODY, Request, token_reply, verdict_reply};
use tempfile::TempDir;

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

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    listener().1.port()
}

/// The program and its run directory; ended on drop.
pub struct Config {
    pub folder: TempDir,
    child: Child,
}

impl Config {
    pub fn start(arguments: &[&str], controllers: &[SocketAddr]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments, controllers)
    }

    /// In a folder that holds something already; `@` in an argument is that folder.
    pub fn start_in(folder: TempDir, arguments: &[&str], controllers: &[SocketAddr]) -> Self {
        signer(&folder);
        let at = folder.path().display().to_string();
        let arguments: Vec<String> = arguments.iter().map(|a| a.replace('@', &at)).collect();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sackd-shim-config"))
            .env_clear()
            .arg("--run-dir")
            .arg(folder.path())
            .args(arguments)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .args(controllers.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Orders a fetch, as the signer does on SIGHUP.
    pub fn order(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"f").unwrap();
    }

    /// What it says of itself.
    pub fn report(&self) -> serde_json::Value {
        let text = fs::read(self.folder.path().join(".config-status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("conf").join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The names, none while there is no directory.
    pub fn names_or_none(&self) -> Vec<String> {
        if self.path("").exists() {
            self.names()
        } else {
            Vec::new()
        }
    }

    pub fn waits_for_log(&self, words: &str) {
        wait_for(words, || self.log().contains(words));
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

/// A push of these files with SlurmUser's token.
pub fn good_push(list: &[(&str, Option<&str>)]) -> (Message, Claims) {
    let body = configuration(list).encode();
    let own = nix::unistd::geteuid().as_raw();
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
        ruid: own,
        uid: own,
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

/// Answers on `sack.socket` as the signer does, for the test's own uid.
fn signer(folder: &TempDir) {
    let listener = UnixListener::bind(folder.path().join("sack.socket")).unwrap();
    let uid = nix::unistd::geteuid().as_raw();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut received = Vec::new();
            let request = loop {
                if let Some(request) = Request::parse(&received).unwrap() {
                    break request;
                }
                let mut chunk = [0; 4096];
                let n = stream.read(&mut chunk).unwrap();
                assert!(n > 0, "a request that is not whole");
                received.extend_from_slice(&chunk[..n]);
            };
            let reply = match request {
                Request::Create {
                    version,
                    ruid,
                    payload,
                } => {
                    assert_eq!(ruid, ANYBODY);
                    let claims = Claims {
                        cluster: None,
                        context: Context::Sack,
                        exp: now() + 60,
                        gid: 0,
                        host: "login".to_owned(),
                        iat: now(),
                        id: None,
                        payload,
                        ruid,
                        uid,
                        ver: i64::from(version.0),
                    };
                    token_reply(&sign(&claims, &keys(KEY)).unwrap())
                }
                Request::Verify { token, .. } => {
                    let reader = Verifier { uid, now: now() };
                    verdict_reply(verify(&token, &keys(KEY), reader).is_ok()).to_vec()
                }
            };
            stream.write_all(&reply).unwrap();
        }
    });
}
