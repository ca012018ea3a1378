//! The command line, defined once: help, manual page and completions come from it. What the words
//! do does not live here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Keeps the people of a login service in its LDAP directory.
///
/// Users, their groups and their ssh keys, as `directoryd` and every program that asks libc will see
/// them. Numbers come from a counter in the directory and are never given twice.
#[derive(Debug, Parser)]
#[command(name = "login-admin", version, max_term_width = 100)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub general: General,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct General {
    /// Configuration file [default: ~/.config/login-admin.toml if there, else
    /// /etc/login-admin/login-admin.toml].
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print the changes as LDIF and make none. An id shown is the counter's next, not a promise.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Ask for the password at the terminal instead of reading 'bind-password-file'.
    #[arg(long, global = true)]
    pub ask_password: bool,
    /// Take ids by compare-and-set even where the server can increment.
    #[arg(long, global = true, hide = true)]
    pub compare_and_set: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Users.
    #[command(subcommand)]
    User(UserCommand),
    /// The ssh keys of a user.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Groups and their members.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Tries configuration, connection, password, schema, bases and counter; prints every problem.
    Check,
    /// Makes the id counter if it is not there, above every id in use.
    Init,
    /// Prints the manual page.
    #[command(hide = true)]
    Man,
    /// Prints completions for a shell.
    #[command(hide = true)]
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// Users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Adds a user, with a group of the same name and number unless told otherwise.
    Add(UserAdd),
    /// Shows a user with groups and keys.
    Show {
        /// The user.
        name: String,
    },
    /// Lists all users.
    List,
    /// Removes a user, the memberships, and the group that was made with the user.
    Del {
        /// The user.
        name: String,
    },
}

/// A new user.
#[derive(Debug, Args)]
pub struct UserAdd {
    /// Letters a-z, digits, '_', '-' and '.'; at most 32.
    pub name: String,
    /// A number instead of the counter's next.
    #[arg(long, value_name = "N")]
    pub uid: Option<u32>,
    /// Number of the primary group: an existing group's, or that of the group made with the user.
    #[arg(long, value_name = "N", conflicts_with = "primary_group")]
    pub gid: Option<u32>,
    /// Name of an existing group to be the primary one; no group is made then.
    #[arg(long, value_name = "GROUP")]
    pub primary_group: Option<String>,
    /// Full name.
    #[arg(long, value_name = "TEXT")]
    pub gecos: Option<String>,
    /// Home directory [default: 'home' of the configuration].
    #[arg(long, value_name = "DIR")]
    pub home: Option<String>,
    /// Login shell [default: 'shell' of the configuration].
    #[arg(long, value_name = "PATH")]
    pub shell: Option<String>,
    /// Further group to join; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// An ssh key: the line itself, a file of lines, or '-' for standard input; several times.
    #[arg(long = "key", value_name = "KEY|FILE")]
    pub keys: Vec<String>,
    /// Take --uid and --gid outside 'id-range'.
    #[arg(long)]
    pub outside_range: bool,
}

/// The ssh keys of a user.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Adds keys; one that is there already is left as it is.
    Add {
        /// The user.
        user: String,
        /// The line itself, a file of lines, or '-' for standard input.
        #[arg(required = true, value_name = "KEY|FILE")]
        keys: Vec<String>,
    },
    /// Lists the keys.
    List {
        /// The user.
        user: String,
    },
    /// Removes keys.
    Del {
        /// The user.
        user: String,
        /// A fingerprint (SHA256:...), a comment that only one key has, the line itself, or a file.
        #[arg(required_unless_present = "all", value_name = "KEY")]
        keys: Vec<String>,
        /// Remove all keys.
        #[arg(long, conflicts_with = "keys")]
        all: bool,
    },
}

/// Groups and their members.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Adds a group.
    Add {
        /// Letters a-z, digits, '_', '-' and '.'; at most 32.
        name: String,
        /// A number instead of the counter's next.
        #[arg(long, value_name = "N")]
        gid: Option<u32>,
        /// First member; may be given several times.
        #[arg(long = "member", value_name = "USER")]
        members: Vec<String>,
        /// Take --gid outside 'id-range'.
        #[arg(long)]
        outside_range: bool,
    },
    /// Shows a group with its members.
    Show {
        /// The group.
        name: String,
    },
    /// Lists all groups.
    List,
    /// Removes a group that is nobody's primary one.
    Del {
        /// The group.
        name: String,
    },
    /// Members of a group.
    #[command(subcommand)]
    Member(MemberCommand),
}

/// Members of a group.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Lets users join; one who is a member already stays one.
    Add {
        /// The group.
        group: String,
        /// The users.
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Lets members leave; one who is no member stays out.
    Del {
        /// The group.
        group: String,
        /// The users.
        #[arg(required = true)]
        users: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn general_options_stand_anywhere() {
        for line in ["--json user list", "user --json list", "user list --json"] {
            let words = std::iter::once("login-admin").chain(line.split(' '));
            assert!(
                Arguments::try_parse_from(words).unwrap().general.json,
                "{line}"
            );
        }
    }
}
