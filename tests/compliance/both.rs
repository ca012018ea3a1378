//! Runs a case against theirs, then ours, on one private host. Servers are shared by all cases of
//! one configuration.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tests::{Host, Server, Start, Whose, possible};

use crate::lacking::LACKING;

/// Equivalent configurations of both servers; `{}` in them is the host's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// `sshd_config`.
    pub theirs: &'static str,
    /// `login-gateway.toml`.
    pub ours: &'static str,
    /// PAM's, if not the usual.
    pub pam: Option<&'static str>,
}

/// What most cases need.
pub const PLAIN: Config = Config {
    theirs: "",
    ours: "",
    pam: None,
};

/// The host of all cases.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let host = Host::start();
        for name in ["host_ca", "user_ca", "other_ca"] {
            host.keygen(name, &["-t", "ed25519"]);
        }
        let at = |name: &str| host.folder().join(name);
        for list in ["revoked", "revoked.txt", "revoked.missing"] {
            std::fs::write(at(list), "").unwrap();
        }
        let mut sign = std::process::Command::new("ssh-keygen");
        sign.args([
            "-q",
            "-I",
            "the host",
            "-h",
            "-n",
            "127.0.0.1,localhost",
            "-s",
        ]);
        tests::run(sign.arg(at("host_ca")).arg(at("host_ed25519.pub"))).ok();
        host
    })
}

/// Runs a case.
pub fn both(module: &str, case: &str, config: Config, run: impl Fn(&Server)) {
    let module = module.split("::").last().unwrap_or(module);
    let name = format!("{module}::{case}");
    if !possible(&name) {
        return;
    }
    let reason = LACKING
        .iter()
        .find(|lack| lack.0 == name)
        .map(|lack| lack.1);
    let only = std::env::var("ONLY").unwrap_or_default();
    for whose in [Whose::Theirs, Whose::Ours] {
        if !only.is_empty() && only != format!("{whose:?}").to_lowercase() {
            continue;
        }
        println!("--- {whose:?}");
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&server(config, whose))));
        match (whose, outcome, reason) {
            (Whose::Ours, Ok(()), Some(reason)) => {
                panic!("{name} passes now; take it off the list of what we lack ({reason})")
            }
            (Whose::Ours, Err(_), Some(reason)) => println!("lacking {name}: {reason}"),
            (_, Err(cause), _) => {
                if let Ok(server) = catch_unwind(|| server(config, whose)) {
                    let log = server.log();
                    let start = log.len().saturating_sub(6000);
                    println!(
                        "--- log of {whose:?}\n{}",
                        String::from_utf8_lossy(&log.as_bytes()[start..])
                    );
                }
                resume_unwind(cause)
            }
            (_, Ok(()), _) => {}
        }
    }
}

type Servers = Mutex<HashMap<(Config, bool), Arc<OnceLock<Arc<Server>>>>>;

fn server(config: Config, whose: Whose) -> Arc<Server> {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    let cell = SERVERS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry((config, whose == Whose::Ours))
        .or_default()
        .clone();
    cell.get_or_init(|| {
        let start = |text: &str| Start {
            config: text.replace("{}", &host().folder().display().to_string()),
            pam: config.pam.map(Into::into),
            environment: Vec::new(),
        };
        Arc::new(match whose {
            Whose::Theirs => host().sshd(start(config.theirs)),
            Whose::Ours => host().gateway(start(config.ours)),
        })
    })
    .clone()
}

/// Defines cases: `case!(name, CONFIG, |server| { ... })`.
macro_rules! case {
    ($name:ident, |$server:ident| $body:block) => {
        case!($name, $crate::both::PLAIN, |$server| $body);
    };
    ($name:ident, $config:expr, |$server:ident| $body:block) => {
        #[test]
        fn $name() {
            $crate::both::both(module_path!(), stringify!($name), $config, |$server| $body);
        }
    };
}
pub(crate) use case;

/// What theirs showed, ours must show.
#[track_caller]
pub fn same(server: &Server, what: &str, shown: impl Into<String>) {
    static SHOWN: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let shown = shown.into();
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let mut seen = SHOWN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    match server.whose {
        Whose::Theirs => drop(seen.insert(format!("{test} {what}"), shown)),
        Whose::Ours => {
            let theirs = seen
                .get(&format!("{test} {what}"))
                .expect("theirs ran first")
                .clone();
            drop(seen);
            assert_eq!(shown, theirs, "{what}: ours, then theirs");
        }
    }
}
