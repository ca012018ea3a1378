//! A real `sackd-shim-config` between a controller that follows a script and a signer made of
//! `slurm-auth`.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod controller;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slurm_auth::{Claims, Context, Verifier, sign, verify};
use slurm_wire::sack::{ANYBODY, Request, token_reply, verdict_reply};
use tempfile::TempDir;

pub use controller::*;

/// The program and its run directory; ended on drop.
pub struct Config {
    pub folder: TempDir,
    child: Child,
    verified: Arc<AtomicUsize>,
}

impl Config {
    pub fn start(arguments: &[&str], controllers: &[SocketAddr]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments, controllers)
    }

    /// In a folder that holds something already; `@` in an argument is that folder.
    pub fn start_in(folder: TempDir, arguments: &[&str], controllers: &[SocketAddr]) -> Self {
        let verified = signer(&folder);
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
        Self {
            folder,
            child,
            verified,
        }
    }

    /// How many tokens the signer was asked about.
    pub fn verified(&self) -> usize {
        self.verified.load(Ordering::Relaxed)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of all orders, as when the signer is gone.
    pub fn end_orders(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
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

/// Answers on `sack.socket` as the signer does, for the test's own uid. Counts the tokens that it is asked
/// about.
fn signer(folder: &TempDir) -> Arc<AtomicUsize> {
    let verified = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&verified);
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
                    count.fetch_add(1, Ordering::Relaxed);
                    let reader = Verifier { uid, now: now() };
                    verdict_reply(verify(&token, &keys(KEY), reader).is_ok()).to_vec()
                }
            };
            stream.write_all(&reply).unwrap();
        }
    });
    verified
}
