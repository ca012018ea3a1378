//! `sackd-shim check`: does by hand what the service will do, and prints every problem instead
//! of the first. The controllers are pinged through `sackd-shim-config`: no network here.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;

use service::{Exit, Failure};
use slurm_auth::{Claims, Context, Keyring, Verifier, message_hash};
use slurm_wire::rpc::MessageType;
use sys::spawn::Spawn;

use crate::config::{Settings, SlurmConfSource};
use crate::error::ShimError;
use crate::identity::{Answer, look_up};
use crate::keys::warnings;
use crate::options::Options;
use crate::policy::Policy;
use crate::signer::unix_now;

/// Collects what is wrong and says at once what is right.
struct Report {
    problems: usize,
}

impl Report {
    fn good(&mut self, text: &str) {
        println!("ok       {text}");
    }

    fn warning(&mut self, text: &str) {
        println!("warning  {text}");
    }

    fn problem(&mut self, text: &str) {
        println!("problem  {text}");
        self.problems += 1;
    }
}

/// Runs all checks.
///
/// # Errors
/// Exit code 78 if there is any problem.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut report = Report { problems: 0 };
    match Settings::load(options) {
        Ok(settings) => everything(&settings, &mut report),
        Err(problems) => {
            for error in &problems {
                report.problem(&service::exit::chain(error));
            }
        }
    }
    match report.problems {
        0 => Ok(()),
        n => Err(Failure::new(
            Exit::Config,
            format!("{n} problem(s), see above"),
        )),
    }
}

fn everything(settings: &Settings, report: &mut Report) {
    run_directory(settings, report);
    slurm_conf(settings, report);
    identity(settings, report);
    if let Some(keys) = keys(settings, report) {
        match mint(settings, &keys) {
            Ok(token) => {
                report.good("a token was made and verified");
                if let SlurmConfSource::Fetched(servers) = &settings.slurm_conf {
                    controllers(servers, &token, report);
                }
            }
            Err(error) => report.problem(&service::exit::chain(&error)),
        }
    }
}

fn run_directory(settings: &Settings, report: &mut Report) {
    use std::os::unix::fs::MetadataExt;
    let path = settings.run_dir.display();
    let slurm = settings.slurm_user.uid.as_raw();
    match std::fs::metadata(&settings.run_dir) {
        Ok(meta) if meta.mode() & 0o1002 == 0o002 => report.warning(&format!(
            "everybody may write in '{path}': other containers must mount it read-only"
        )),
        Ok(meta) if meta.uid() == slurm => report.good(&format!("run directory '{path}'")),
        Ok(meta) if meta.uid() == 0 => report.warning(&format!(
            "run directory '{path}' belongs to root: uid {slurm} needs a way to write in it"
        )),
        Ok(meta) => report.problem(&format!(
            "run directory '{path}' belongs to uid {}, neither to root nor to SlurmUser",
            meta.uid()
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report.warning(&format!(
                "run directory '{path}' is missing and will be made"
            ));
        }
        Err(error) => report.problem(&format!("run directory '{path}': {error}")),
    }
}

fn slurm_conf(settings: &Settings, report: &mut Report) {
    let path = settings.slurm_conf_path();
    let shown = path.display();
    let fetched = matches!(settings.slurm_conf, SlurmConfSource::Fetched(_));
    if !path.exists() {
        if fetched {
            report.warning(&format!("'{shown}' has not been fetched yet"));
        } else {
            report.problem(&format!("'{shown}' is missing"));
        }
        return;
    }
    let policy = Policy::new(settings);
    report.good(&format!(
        "'{shown}': cluster '{}', tokens live {} s, identities in tokens: {}",
        policy.cluster().unwrap_or("-"),
        policy.lifetime().as_secs(),
        if policy.use_client_ids() { "yes" } else { "no" }
    ));
}

fn identity(settings: &Settings, report: &mut Report) {
    let user = &settings.slurm_user;
    match look_up(user.uid.as_raw()) {
        Answer::Found(found) => {
            report.good(&format!("SlurmUser '{}', uid {}", found.name, user.uid));
        }
        other => report.problem(&format!("SlurmUser '{}' by uid: {other:?}", user.name)),
    }
    if nix::unistd::Uid::effective() != user.uid && !nix::unistd::Uid::effective().is_root() {
        report.problem(&format!(
            "this is uid {}, the service must run as SlurmUser, uid {}",
            nix::unistd::Uid::effective(),
            user.uid
        ));
    }
}

fn keys(settings: &Settings, report: &mut Report) -> Option<Keyring> {
    let path = settings.key.path().display();
    match settings.key.load() {
        Ok(keys) => {
            let kid = keys
                .signing_kid()
                .map(|kid| format!(", '{kid}' signs"))
                .unwrap_or_default();
            report.good(&format!("key '{path}': {} key(s){kid}", keys.len()));
            for warning in warnings(&keys, unix_now()) {
                report.warning(&warning);
            }
            Some(keys)
        }
        Err(error) => {
            report.problem(&service::exit::chain(&error));
            None
        }
    }
}

/// A token for REQUEST_PING, as SlurmUser.
fn mint(settings: &Settings, keys: &Keyring) -> Result<String, ShimError> {
    let now = unix_now();
    let host = nix::unistd::gethostname().unwrap_or_default();
    let claims = Claims {
        cluster: settings.cluster.clone(),
        context: Context::Sack,
        exp: now + 60,
        gid: settings.slurm_user.gid.as_raw(),
        host: host.to_string_lossy().into_owned(),
        iat: now,
        id: None,
        payload: message_hash::k12(MessageType::PING.0, &[]).to_vec(),
        ruid: slurm_wire::sack::ANYBODY,
        uid: settings.slurm_user.uid.as_raw(),
        ver: i64::from(slurm_wire::ProtocolVersion::V26_05.0),
    };
    let token = slurm_auth::sign(&claims, keys)?;
    slurm_auth::verify(
        &token,
        keys,
        Verifier {
            uid: claims.uid,
            now,
        },
    )?;
    Ok(token)
}

/// Gives the token to `sackd-shim-config ping` on its standard input; it prints a line for each
/// controller, and ends with 0 if one answered well.
fn controllers(servers: &[String], token: &str, report: &mut Report) {
    match ping(servers, token) {
        Ok(lines) => {
            for line in lines.lines() {
                match line.split_once(' ') {
                    Some(("ok", rest)) => report.good(rest),
                    Some((_, rest)) => report.problem(rest),
                    None => {}
                }
            }
        }
        Err(error) => report.problem(&format!("ping the controllers: {error}")),
    }
}

fn ping(servers: &[String], token: &str) -> std::io::Result<String> {
    let (input, mut feed) = pipe()?;
    let (drain, output) = pipe()?;
    let program = service::sibling("sackd-shim-config")?;
    let mut child = Spawn::new(&program)
        .args(["ping", "--"])
        .args(servers)
        .fd(0, OwnedFd::from(input))
        .fd(1, OwnedFd::from(output))
        .inherit_stderr()
        .start()?;
    feed.write_all(token.as_bytes())?;
    drop(feed);
    let mut text = String::new();
    File::from(OwnedFd::from(drain))
        .take(1 << 20)
        .read_to_string(&mut text)?;
    child.wait()?;
    Ok(text)
}
