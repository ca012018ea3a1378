//! `login-admin`: adds and removes users, groups and ssh keys in the LDAP directory. Reading the
//! directory for logins is directoryd's work, not done here.
#![forbid(unsafe_code)]

mod account;
mod arguments;
mod check;
mod directory;
mod entry;
mod error;
mod group;
mod holders;
mod ids;
mod key;
mod key_argument;
mod membership;
mod name;
mod new_user;
mod page;
mod password;
mod plan;
mod refresh;
mod schema;
mod session;
mod settings;
mod ssh_key;
mod user;

use std::io::{self, Write as _};
use std::panic;
use std::process::ExitCode;

use clap::Parser as _;
use service::{Exit, Failure};

use arguments::{Arguments, Command, GroupCommand, KeyCommand, MemberCommand, UserCommand};
use error::{AdminError, failure};
use name::NewName;
use session::{Outcome, Session};
use settings::Settings;
use ssh_key::SshKey;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    service::run("login-admin", || run(arguments))
}

/// Help and version are no errors; everything else is the caller's (sysexits.h).
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(Exit::Usage as u8)
    } else {
        ExitCode::SUCCESS
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Man => {
            return print(
                &page::manual()
                    .map_err(AdminError::Output)
                    .map_err(failure)?,
            );
        }
        Command::Completion { shell } => return print(&page::completion(shell)),
        _ => {}
    }
    let general = &arguments.general;
    let settings = Settings::load(&settings::file(general.config.as_deref())).map_err(failure)?;
    let is_check = matches!(arguments.command, Command::Check);
    // What can be judged without the server is judged before it is asked.
    let task = Task::prepare(arguments.command, &settings).map_err(failure)?;
    if settings.is_exposed() {
        eprintln!(
            "login-admin: warning: the password goes to '{}' in the clear",
            settings.uri
        );
    }
    let password = password::get(&settings, general.ask_password).map_err(failure)?;
    let outcome = converse(async {
        let mut session = Session::open(&settings, general, &password).await?;
        let outcome = task.carry_out(&mut session).await?;
        session.directory.close().await;
        Ok(outcome)
    })
    .map_err(failure)?;
    report(outcome, general.json, &settings, is_check)
}

/// A command whose arguments were found good.
enum Task {
    UserAdd(Box<new_user::NewUser>),
    UserShow(String),
    UserList,
    UserDel(String),
    KeyAdd(String, Vec<SshKey>),
    KeyList(String),
    KeyDel(String, Vec<String>, bool),
    GroupAdd(NewName, Option<u32>, Vec<String>),
    GroupShow(String),
    GroupList,
    GroupDel(String),
    MemberAdd(String, Vec<String>),
    MemberDel(String, Vec<String>),
    Init,
    /// Also stands for the commands that were done before.
    Check,
}

impl Task {
    fn prepare(command: Command, settings: &Settings) -> Result<Self, AdminError> {
        Ok(match command {
            Command::User(UserCommand::Add(asked)) => {
                Self::UserAdd(Box::new(new_user::NewUser::check(asked, settings)?))
            }
            Command::User(UserCommand::Show { name }) => Self::UserShow(name),
            Command::User(UserCommand::List) => Self::UserList,
            Command::User(UserCommand::Del { name }) => Self::UserDel(name),
            Command::Key(KeyCommand::Add { user, keys }) => Self::KeyAdd(
                user,
                key_argument::read_all(&keys).map_err(AdminError::Key)?,
            ),
            Command::Key(KeyCommand::List { user }) => Self::KeyList(user),
            Command::Key(KeyCommand::Del { user, keys, all }) => Self::KeyDel(user, keys, all),
            Command::Group(GroupCommand::Add {
                name,
                gid,
                members,
                outside_range,
            }) => {
                let name = NewName::parse(&name).map_err(|source| AdminError::Name {
                    kind: "group",
                    source,
                })?;
                if let Some(gid) = gid {
                    ids::judge(gid, settings, outside_range)?;
                }
                Self::GroupAdd(name, gid, members)
            }
            Command::Group(GroupCommand::Show { name }) => Self::GroupShow(name),
            Command::Group(GroupCommand::List) => Self::GroupList,
            Command::Group(GroupCommand::Del { name }) => Self::GroupDel(name),
            Command::Group(GroupCommand::Member(MemberCommand::Add { group, users })) => {
                Self::MemberAdd(group, users)
            }
            Command::Group(GroupCommand::Member(MemberCommand::Del { group, users })) => {
                Self::MemberDel(group, users)
            }
            Command::Init => Self::Init,
            Command::Check | Command::Man | Command::Completion { .. } => Self::Check,
        })
    }

    async fn carry_out(&self, session: &mut Session<'_>) -> Result<Outcome, AdminError> {
        match self {
            Self::UserAdd(new) => new_user::add(session, new).await,
            Self::UserShow(name) => user::show(session, name).await,
            Self::UserList => user::list(session).await,
            Self::UserDel(name) => user::del(session, name).await,
            Self::KeyAdd(user, keys) => key::add(session, user, keys).await,
            Self::KeyList(user) => key::list(session, user).await,
            Self::KeyDel(user, which, all) => key::del(session, user, which, *all).await,
            Self::GroupAdd(name, gid, members) => group::add(session, name, *gid, members).await,
            Self::GroupShow(name) => group::show(session, name).await,
            Self::GroupList => group::list(session).await,
            Self::GroupDel(name) => group::del(session, name).await,
            Self::MemberAdd(group, users) => membership::add(session, group, users).await,
            Self::MemberDel(group, users) => membership::del(session, group, users).await,
            Self::Init => check::init(session).await,
            Self::Check => check::check(session).await,
        }
    }
}

/// Runs the conversation with the server to its end.
///
/// The LDAP library panics on some malformed answers (missing elements, odd controls): those panics
/// end the conversation and not the program. All others are ours and abort as everywhere.
fn converse(
    conversation: impl Future<Output = Result<Outcome, AdminError>>,
) -> Result<Outcome, AdminError> {
    let ours = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", |location| location.file());
        if !file.contains("/ldap3-") && !file.contains("/lber-") {
            ours(info);
        }
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AdminError::Output)?;
    panic::catch_unwind(panic::AssertUnwindSafe(|| runtime.block_on(conversation)))
        .unwrap_or(Err(AdminError::Malformed))
}

/// Prints what came out, then tells directoryd.
fn report(
    outcome: Outcome,
    json: bool,
    settings: &Settings,
    is_check: bool,
) -> Result<(), Failure> {
    print(&if json {
        format!("{:#}\n", outcome.json)
    } else {
        outcome.text
    })?;
    for warning in &outcome.warnings {
        let what = if is_check { "problem" } else { "warning" };
        eprintln!("login-admin: {what}: {}", session::shown(warning));
    }
    if outcome.changed
        && let Some(socket) = &settings.directory_socket
        && let Err(error) = refresh::ask(socket)
    {
        let said = service::exit::chain(&error);
        eprintln!("login-admin: warning: directoryd was not told, it will see it later: {said}");
    }
    if is_check && !outcome.warnings.is_empty() {
        let count = outcome.warnings.len();
        return Err(Failure::new(
            Exit::Config,
            format!("{count} problems found"),
        ));
    }
    Ok(())
}

/// Data goes to standard output; a reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failure(AdminError::Output(error)))
        }
        _ => Ok(()),
    }
}
