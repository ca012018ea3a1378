//! `login-gateway sessions`, `status` and `drain`: the administrator's side of the control socket.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_wire::control::{Answer, Connected, MAX_ANSWER, Request, Status, Whom};
use gateway_wire::monitor::Line;
use gateway_wire::{Settings, UserName};
use service::{Exit, Failure};
use sys::clock::{span, to_the_minute};

use crate::arguments::{Arguments, Drain, Sessions, SessionsCommand, Who};
use crate::config;
use crate::pages::print;

/// Patience with a gateway that restarts, and with its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// `login-gateway sessions ...`.
pub fn sessions(from: &Arguments, options: &Sessions) -> Result<(), Failure> {
    match &options.command {
        None => list(from, options.json),
        Some(SessionsCommand::List) => list(from, options.json),
        Some(SessionsCommand::Message { who, text }) => {
            let (to, text) = (whom(who)?, text.clone());
            match ask(from, &Request::Message { to, text })? {
                Answer::Told { logins, terminals } => {
                    let words = format!("sent to {terminals} terminal(s) of {logins} login(s)");
                    let json = serde_json::json!({ "logins": logins, "terminals": terminals });
                    told(who, logins, &words, options.json.then_some(json))
                }
                Answer::Refused(why) => Err(Failure::new(Exit::Failure, why)),
                _ => Err(unexpected()),
            }
        }
        Some(SessionsCommand::Kick { who, text }) => {
            let (to, text) = (whom(who)?, text.clone());
            let number = done(ask(from, &Request::Kick { to, text })?)?;
            let json = serde_json::json!({ "logins": number });
            let words = format!("ended {number} login(s)");
            told(who, number, &words, options.json.then_some(json))
        }
    }
}

/// `login-gateway status`.
pub fn status(from: &Arguments, json: bool) -> Result<(), Failure> {
    let Answer::Status(status) = ask(from, &Request::Status)? else {
        return Err(unexpected());
    };
    if json {
        return print_json(&status);
    }
    print(status_lines(&status).as_bytes())
}

/// `login-gateway drain`.
pub fn drain(from: &Arguments, options: &Drain) -> Result<(), Failure> {
    if options.cancel {
        let number = done(ask(from, &Request::CancelDrain)?)?;
        return print(format!("takes logins again; {number} connection(s)\n").as_bytes());
    }
    let request = Request::Drain {
        within: options.within,
        reason: options.reason.clone(),
    };
    let number = done(ask(from, &request)?)?;
    print(format!("takes no more logins; {number} connection(s) left\n").as_bytes())?;
    if !options.wait {
        return Ok(());
    }
    let mut last = number;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        // A gateway that has ended has no socket.
        let Ok(Answer::Status(status)) = ask_once(&socket(from)?, &Request::Status) else {
            return print(b"the gateway has ended\n");
        };
        if status.state == "serving" {
            return Err(Failure::new(Exit::Failure, "the drain was cancelled"));
        }
        let left = status.startups + status.logins;
        if left != last {
            print(format!("{left} connection(s) left\n").as_bytes())?;
            last = left;
        }
    }
}

fn list(from: &Arguments, json: bool) -> Result<(), Failure> {
    let Answer::Sessions(all) = ask(from, &Request::Sessions)? else {
        return Err(unexpected());
    };
    if json {
        return print_json(&all);
    }
    let rows = all.iter().map(row);
    let header = ["LOGIN", "USER", "FROM", "SINCE", "IDLE", "TERMINALS", "PID"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    print(text.as_bytes())
}

fn row(session: &Connected) -> [String; 7] {
    let user = session
        .user
        .as_ref()
        .map_or("(authenticating)", |user| user.as_str());
    let terminals = session.terminals.iter().map(|n| format!("pts/{n}"));
    let mut terminals = terminals.collect::<Vec<_>>();
    if session.line != Line::Connected {
        terminals.push(session.line.name().to_owned());
    }
    let terminals = terminals.join(",");
    [
        session.login.clone(),
        user.to_owned(),
        session.source.to_string(),
        to_the_minute(session.opened),
        idle(&session.terminals).map_or("-".into(), |idle| span(idle.as_secs())),
        if terminals.is_empty() {
            "-".into()
        } else {
            terminals
        },
        session.pid.to_string(),
    ]
}

/// Time since a key was last typed, as w(1) has it: the terminal's last access.
fn idle(terminals: &[u32]) -> Option<Duration> {
    let accessed = |number: &u32| {
        let meta = std::fs::metadata(format!("/dev/pts/{number}")).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(meta.atime()).ok()?))
    };
    let last = terminals.iter().filter_map(accessed).max()?;
    Some(SystemTime::now().duration_since(last).unwrap_or_default())
}

fn status_lines(status: &Status) -> String {
    let listen: Vec<String> = status.listen.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        ("state", status.state.clone()),
        (
            "takes logins",
            if status.ready { "yes" } else { "no" }.to_owned(),
        ),
    ];
    lines.extend(status.ends.map(|at| ("ends", to_the_minute(at))));
    lines.extend([
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("listen", listen.join(" ")),
        ("logins", status.logins.to_string()),
        ("authenticating", status.startups.to_string()),
        ("warm", status.warm.to_string()),
        ("connections, total", status.connections_total.to_string()),
        ("logins, total", status.logins_total.to_string()),
        ("refused, total", status.refused_total.to_string()),
        ("out of memory", status.memory.clone()),
    ]);
    let lines = lines
        .iter()
        .map(|(name, value)| format!("{name:20}{value}\n"));
    lines.collect()
}

fn whom(who: &Who) -> Result<Whom, Failure> {
    Ok(match (&who.user, &who.login) {
        (Some(user), _) => Whom::User(
            UserName::try_from(user.clone()).map_err(|error| Failure::new(Exit::Usage, error))?,
        ),
        (None, Some(login)) => Whom::Login(login.clone()),
        (None, None) => Whom::All,
    })
}

fn done(answer: Answer) -> Result<usize, Failure> {
    match answer {
        Answer::Done(number) => Ok(number),
        Answer::Refused(why) => Err(Failure::new(Exit::Failure, why)),
        _ => Err(unexpected()),
    }
}

/// Says what was done to so many logins; that a named one is not there is a failure.
fn told(
    who: &Who,
    number: usize,
    words: &str,
    json: Option<serde_json::Value>,
) -> Result<(), Failure> {
    match json {
        Some(json) => print_json(&json)?,
        None => print(format!("{words}\n").as_bytes())?,
    }
    if number == 0 && !who.all {
        return Err(Failure::new(Exit::Failure, "there is no such login")
            .hint("see \"login-gateway sessions list\""));
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print((serde_json::to_string_pretty(value)? + "\n").as_bytes())
}

fn unexpected() -> Failure {
    Failure::new(
        Exit::Failure,
        "the gateway gave another answer than expected",
    )
    .hint("it may be of another version: reload it with SIGHUP")
}

/// Where the gateway listens: by its configuration file, if there is one.
fn socket(from: &Arguments) -> Result<PathBuf, Failure> {
    let path = from.config();
    let socket = if from.config.is_some() || path.exists() {
        config::load_naming_all(path)
            .map_err(|mut errors| Failure::new(Exit::Config, errors.remove(0)))?
            .control_socket
    } else {
        Settings::default().control_socket
    };
    socket.ok_or_else(|| {
        Failure::new(Exit::Config, "the configuration has no control-socket")
            .hint("set control-socket, and reload the gateway with SIGHUP")
    })
}

/// Asks the running gateway.
pub fn ask(from: &Arguments, request: &Request) -> Result<Answer, Failure> {
    let socket = socket(from)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match ask_once(&socket, request) {
            Ok(answer) => return Ok(answer),
            // Between two programs at a reload.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused)
                    && Instant::now() + Duration::from_secs(8) < end =>
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                let (exit, hint) = match error.kind() {
                    ErrorKind::PermissionDenied => (Exit::Permission, "this is for root"),
                    _ => (
                        Exit::Failure,
                        "is login-gateway running here, with this control-socket?",
                    ),
                };
                let what = format!("ask the gateway at '{}': {error}", socket.display());
                return Err(Failure::new(exit, what).hint(hint));
            }
        }
    }
}

fn ask_once(socket: &Path, request: &Request) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
