//! Case 7: fetching, registering and being pushed to, with a controller that follows a script. What the real
//! one does otherwise is held as well: it is why ours does not.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use slurm_auth::{Claims, Context, sign};
use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::{ConfigRequest, Wanted};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};
use slurm_wire::sack::{ANYBODY, parse_token_reply};

use crate::client::{create, say, token};
use crate::controller::{Answer, KEY, controller, free_port, keys, listener, now, push, push_of};
use crate::server::{Kind, Peers, SLURM_USER, Server, program};

const PATIENCE: Duration = Duration::from_secs(30);

type Files<'a> = &'a [(&'a str, Option<&'a str>)];

/// Whether the other program of ours is there; cargo builds it with its own room.
pub fn can_run() -> bool {
    program("sackd-shim-config").exists()
}

fn conf(port: u16, mark: u32) -> String {
    format!(
        "ClusterName=Lab\nSlurmctldHost=localhost\nSlurmUser=slurm\nAuthType=auth/slurm\nSlurmdPort={port}\n\
         NodeName=n\n#{mark}\n"
    )
}

/// A server that has its first configuration and listens for pushes.
struct Registered {
    server: Server,
    requests: Receiver<Message>,
    port: u16,
    /// That of its registration: pushes come in it.
    version: ProtocolVersion,
}

impl Registered {
    fn start(peers: &Peers, kind: Kind) -> Self {
        let (listener, address) = listener();
        let port = free_port();
        let first = conf(port, 1);
        let requests = controller(listener, move |_| {
            Answer::files(&[("slurm.conf", Some(&first)), ("old.conf", Some("x"))])
        });
        let mut server = peers.configless(kind, KEY, &[address]);
        let version = requests.recv_timeout(PATIENCE).unwrap().version;
        server.wait_for("the configuration", |server| {
            server.conf("old.conf").is_some()
        });
        server.wait_for("its port", |_| {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server.wait_for("its socket", |server| server.socket().exists());
        Self {
            server,
            requests,
            port,
            version,
        }
    }

    /// SlurmUser's push of these files.
    fn good(&self, files: Files<'_>) -> (Message, Claims) {
        let (message, claims) = push_of(SLURM_USER, files);
        let version = self.version;
        (Message { version, ..message }, claims)
    }

    fn push(&self, message: &Message) {
        push(self.port, message);
    }

    fn push_files(&self, files: Files<'_>) {
        self.push(&self.good(files).0);
    }

    fn has(&self, mark: u32) -> bool {
        self.server.conf("slurm.conf") == Some(conf(self.port, mark))
    }

    fn wait_for(&mut self, mark: u32) {
        let text = conf(self.port, mark);
        self.server.wait_for("the push", |server| {
            server.conf("slurm.conf").as_deref() == Some(&text)
        });
    }
}

fn signed(message: &Message, claims: &Claims, key: &[u8]) -> Message {
    let token = sign(claims, &keys(key)).unwrap();
    Message {
        credential: Some(Credential::Slurm(token)),
        ..message.clone()
    }
}

/// The request, whose token it carries, and what comes of it.
pub fn fetch(peers: &Peers, kind: Kind) {
    let (listener, address) = listener();
    let text = conf(free_port(), 1);
    let sent = text.clone();
    let requests = controller(listener, move |_| {
        Answer::files(&[
            ("slurm.conf", Some(&sent)),
            ("plugstack.conf", Some("")),
            ("oci.conf", None),
        ])
    });
    let mut server = peers.configless(kind, KEY, &[address]);
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request.message_type, MessageType::REQUEST_CONFIG);
    let body = ConfigRequest::decode(&request.body, request.version).unwrap();
    let wanted = Wanted::ClientAndRegister;
    assert_eq!(body, ConfigRequest { wanted, port: 0 });
    let Some(Credential::Slurm(token)) = &request.credential else {
        panic!("no token")
    };
    let claims = slurm_auth::read_unverified(token).unwrap();
    assert_eq!((claims.uid, claims.ruid), (SLURM_USER, u32::MAX));
    server.wait_for("the configuration", |server| {
        server.conf("slurm.conf").as_deref() == Some(&text)
    });
    assert_eq!(server.conf("plugstack.conf").as_deref(), Some(""));
    assert_eq!(server.conf("oci.conf"), None);
}

pub fn taken(peers: &Peers, kind: Kind) {
    let mut one = Registered::start(peers, kind);
    let text = format!("{}AuthInfo=ttl=44\n", conf(one.port, 2));
    one.push_files(&[("slurm.conf", Some(&text))]);
    one.server.wait_for("the push", |server| {
        server.conf("slurm.conf").as_deref() == Some(&text)
    });
    // The real one starts itself again with it: then it is there for the next.
    one.server
        .wait_for("its tokens", |server| life(server) == Some(44));
    // A token of a SACK socket is as good.
    let (message, claims) = one.good(&[("slurm.conf", Some(&conf(one.port, 3)))]);
    let context = Context::Sack;
    one.push(&signed(&message, &Claims { context, ..claims }, KEY));
    one.wait_for(3);
}

pub fn refused(peers: &Peers, kind: Kind) {
    let mut one = Registered::start(peers, kind);
    let text = conf(one.port, 2);
    let (good, claims) = one.good(&[("slurm.conf", Some(&text)), ("evil.conf", Some("x"))]);
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut changed = claims.clone();
        change(&mut changed);
        signed(&good, &changed, KEY)
    };
    let bare = |credential| Message {
        credential,
        ..good.clone()
    };
    for (what, message) in [
        ("root", with(&|c| c.uid = 0)),
        ("a user", with(&|c| c.uid = 1001)),
        (
            "a bad key",
            signed(&good, &claims, b"another key, as long as a good one"),
        ),
        ("a bad hash", with(&|c| c.payload[5] ^= 1)),
        ("another reader", with(&|c| c.ruid = 0)),
        ("expired", with(&|c| c.exp = now() - 5)),
        (
            "another context",
            with(&|c| c.context = Context::Other("launch".to_owned())),
        ),
        ("no credential", bare(None)),
        ("auth/none", bare(Some(Credential::None))),
    ] {
        one.push(&message);
        assert!(one.has(1), "{what}");
        assert_eq!(one.server.conf("evil.conf"), None, "{what}");
    }
    // And the same files by a push that may be made.
    one.push(&good);
    one.wait_for(2);
    assert_eq!(one.server.conf("evil.conf").as_deref(), Some("x"));
}

/// Tokens that are for any message: the real one takes what they come with.
pub fn without_a_hash(peers: &Peers, kind: Kind) {
    for payload in [vec![], vec![1, 0x03, 0xee]] {
        let mut one = Registered::start(peers, kind);
        let text = conf(one.port, 2);
        let (message, claims) = one.good(&[("slurm.conf", Some(&text))]);
        one.push(&signed(&message, &Claims { payload, ..claims }, KEY));
        if one.server.is_theirs() {
            one.wait_for(2);
        } else {
            one.server.wait_for("the refusal", |server| {
                server.log().contains("its token is for another message")
            });
            assert!(one.has(1));
        }
    }
}

/// A name that leads elsewhere, pushed: the real one writes it there.
pub fn names_pushed(peers: &Peers, kind: Kind) {
    let mut one = Registered::start(peers, kind);
    let text = conf(one.port, 2);
    one.push_files(&[("slurm.conf", Some(&text)), ("../evil.conf", Some("x"))]);
    if one.server.is_theirs() {
        one.server
            .wait_for("the file", |server| server.run("evil.conf").exists());
    } else {
        one.server
            .wait_for("the refusal", |server| server.log().contains("config.kept"));
        assert!(one.has(1));
        assert!(!one.server.run("evil.conf").exists());
    }
}

/// The same, fetched.
pub fn names_fetched(peers: &Peers, kind: Kind) {
    let (listener, address) = listener();
    let text = conf(free_port(), 1);
    let requests = controller(listener, move |_| {
        Answer::files(&[("slurm.conf", Some(&text)), ("../evil.conf", Some("x"))])
    });
    let mut server = peers.configless(kind, KEY, &[address]);
    requests.recv_timeout(PATIENCE).unwrap();
    if server.is_theirs() {
        server.wait_for("the file", |server| server.run("evil.conf").exists());
    } else {
        server.wait_for("the refusal", |server| server.log().contains("config.kept"));
        assert_eq!(server.conf("slurm.conf"), None);
        assert!(!server.run("evil.conf").exists());
    }
}

/// A file that is listed as absent goes; one that is not listed any more stays at the real one.
pub fn stale(peers: &Peers, kind: Kind) {
    let mut one = Registered::start(peers, kind);
    let text = conf(one.port, 2);
    one.push_files(&[("slurm.conf", Some(&text)), ("old.conf", None)]);
    one.wait_for(2);
    one.server
        .wait_for("the file's end", |server| server.conf("old.conf").is_none());
    let mut one = Registered::start(peers, kind);
    let text = conf(one.port, 2);
    one.push_files(&[("slurm.conf", Some(&text))]);
    one.wait_for(2);
    assert_eq!(
        one.server.conf("old.conf").is_some(),
        one.server.is_theirs()
    );
}

/// Ours serves meanwhile, the real one has no socket yet.
pub fn late(peers: &Peers, kind: Kind) {
    let (closed, address) = listener();
    drop(closed);
    let mut server = peers.configless(kind, KEY, &[address]);
    if server.is_theirs() {
        assert!(!server.socket().exists());
    } else {
        server.wait_for("the failure", |server| {
            server.log().contains("fetch.failed")
        });
        token(&server.socket());
    }
    assert_eq!(server.conf("slurm.conf"), None);
    let text = conf(free_port(), 1);
    let requests = controller(TcpListener::bind(address).unwrap(), move |_| {
        Answer::files(&[("slurm.conf", Some(&text))])
    });
    requests.recv_timeout(PATIENCE).unwrap();
    server.wait_for("the configuration", |server| {
        server.conf("slurm.conf").is_some()
    });
    server.wait_for("its socket", |server| server.socket().exists());
    token(&server.socket());
}

/// Two controllers at one port, since the real one uses the first one's for all.
pub fn standby(peers: &Peers, kind: Kind) {
    for code in [ReturnCode::STANDBY, ReturnCode::STANDBY_USE_BACKUP] {
        let (first, address) = listener();
        let second = TcpListener::bind(("127.0.0.2", address.port())).unwrap();
        let addresses = [address, second.local_addr().unwrap()];
        let text = conf(free_port(), 1);
        let standby = controller(first, move |_| Answer::code(code));
        let active = controller(second, move |_| {
            Answer::files(&[("slurm.conf", Some(&text))])
        });
        let mut server = peers.configless(kind, KEY, &addresses);
        standby.recv_timeout(PATIENCE).unwrap();
        active.recv_timeout(PATIENCE).unwrap();
        server.wait_for("the configuration", |server| {
            server.conf("slurm.conf").is_some()
        });
    }
}

pub fn busy(peers: &Peers, kind: Kind) {
    let (listener, address) = listener();
    let text = conf(free_port(), 1);
    let mut asked = 0;
    let requests = controller(listener, move |_| {
        asked += 1;
        match asked {
            1 | 2 => Answer::code(ReturnCode::BACK_OFF),
            _ => Answer::files(&[("slurm.conf", Some(&text))]),
        }
    });
    let mut server = peers.configless(kind, KEY, &[address]);
    for _ in 0..3 {
        requests.recv_timeout(PATIENCE).unwrap();
    }
    server.wait_for("the configuration", |server| {
        server.conf("slurm.conf").is_some()
    });
}

/// slurmctld forgets who could not be reached once: after a push that broke off ours asks again by itself.
/// The real one does not, and not at SIGHUP either.
pub fn registered_again(peers: &Peers, kind: Kind) {
    use std::io::Write as _;

    let mut one = Registered::start(peers, kind);
    let frame = one.good(&[("slurm.conf", Some("x"))]).0.encode();
    let mut cut = TcpStream::connect(("127.0.0.1", one.port)).unwrap();
    cut.write_all(&frame[..frame.len() / 2]).unwrap();
    drop(cut);
    if one.server.is_theirs() {
        // Whether it has read a configuration shows in its tokens.
        let text = |ttl: i64| format!("{}AuthInfo=ttl={ttl}\n", conf(one.port, 2));
        one.push_files(&[("slurm.conf", Some(&text(44)))]);
        one.server
            .wait_for("the push", |server| life(server) == Some(44));
        std::fs::write(one.server.run("conf/slurm.conf"), text(33)).unwrap();
        one.server.hang_up();
        one.server
            .wait_for("the file it has", |server| life(server) == Some(33));
        assert_eq!(one.requests.try_iter().count(), 0);
    } else {
        one.requests.recv_timeout(PATIENCE).unwrap();
    }
}

/// How long a token lives, if there is one: a server that starts itself again may just be away.
fn life(server: &Server) -> Option<i64> {
    let reply = say(&server.socket(), &create(ANYBODY, b""));
    let token = parse_token_reply(&reply).ok()??;
    let claims = slurm_auth::read_unverified(&token).ok()?;
    Some(claims.exp - claims.iat)
}
