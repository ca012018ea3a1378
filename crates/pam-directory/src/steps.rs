//! What each step asks the daemon, and what its answers mean to PAM.
//!
//! Users of `/etc/passwd` are not ours, whatever the directory says: `PAM_USER_UNKNOWN`, before any
//! question and before the daemon hears of them; the account step, which has no say in them, is ignored.

use std::{ffi::c_int, fs::File, io::Read};

use directory_client::{AccountState, Change, Client, Lookup, Password, Verdict};

use crate::{
    handle::{Code, Handle, PRELIM_CHECK},
    options::Options,
};

/// Most bytes of `/etc/passwd` read.
const MAX_PASSWD: u64 = 16 << 20;
const NO_DIRECTORY: &str = "The directory of users cannot be reached now. Please try again later.";

/// The password is the user's.
pub fn authenticate(handle: &Handle, options: &Options) -> Code {
    ended(try_authenticate(handle, options))
}

fn try_authenticate(handle: &Handle, options: &Options) -> Result<Code, Code> {
    let user = ours(handle)?;
    let typed = handle.password(c"Password: ")?;
    let client = Client::new(&options.socket);
    Ok(match verify(handle, &client, &user, typed)? {
        Verdict::Accepted {
            must_change,
            notices,
        } => {
            for notice in notices {
                handle.info(&notice);
            }
            handle.set_must_change(must_change);
            Code::SUCCESS
        }
        Verdict::Expired => {
            handle.error("Your password has expired. Please ask an administrator for a new one.");
            Code::AUTH_ERR
        }
        Verdict::Unavailable => Code::AUTHINFO_UNAVAIL,
        _ => Code::AUTH_ERR,
    })
}

/// The account may log in, however the user has shown who it is.
pub fn account(handle: &Handle, options: &Options) -> Code {
    ended(try_account(handle, options))
}

fn try_account(handle: &Handle, options: &Options) -> Result<Code, Code> {
    let user = match ours(handle) {
        Err(Code::USER_UNKNOWN) => return Ok(Code::IGNORE),
        user => user?,
    };
    let found = Client::new(&options.socket)
        .account(&user, options.timeout)
        .map_err(|_| Code::AUTHINFO_UNAVAIL)?;
    let account = match found {
        Lookup::Found(account) => account,
        Lookup::NotFound => return Ok(Code::USER_UNKNOWN),
        Lookup::Unavailable => return Ok(Code::AUTHINFO_UNAVAIL),
    };
    let (text, code) = match account.state {
        AccountState::Active if handle.must_change() => {
            ("Your password must be changed now.", Code::NEW_AUTHTOK_REQD)
        }
        AccountState::Active => return Ok(Code::SUCCESS),
        AccountState::Locked => ("Your account is locked.", Code::PERM_DENIED),
        AccountState::Expired => ("Your account has expired.", Code::ACCT_EXPIRED),
        AccountState::NotYet => ("Your account is not open yet.", Code::ACCT_EXPIRED),
        AccountState::NoLogin => ("This account is not for logins.", Code::PERM_DENIED),
        AccountState::Hours => ("You may not log in at this time.", Code::PERM_DENIED),
        _ => ("You may not log in here.", Code::PERM_DENIED),
    };
    if !options.quiet {
        handle.error(text);
    }
    Ok(code)
}

/// A new password, by a user who knows the present one.
pub fn password(handle: &Handle, options: &Options, flags: c_int) -> Code {
    ended(try_password(handle, options, flags))
}

fn try_password(handle: &Handle, options: &Options, flags: c_int) -> Result<Code, Code> {
    let user = ours(handle)?;
    let client = Client::new(&options.socket);
    let old = handle.old_password(c"Current password: ")?;
    if flags & PRELIM_CHECK != 0 {
        return Ok(match verify(handle, &client, &user, old)? {
            Verdict::Accepted { .. } => Code::SUCCESS,
            Verdict::Unavailable => {
                handle.error(NO_DIRECTORY);
                Code::TRY_AGAIN
            }
            Verdict::Expired => {
                handle.error("Your password has expired. Please ask an administrator.");
                Code::PERM_DENIED
            }
            _ => Code::AUTH_ERR,
        });
    }
    let new = handle.new_password()?;
    let old = Password::new(old).map_err(|_| Code::AUTH_ERR)?;
    let Ok(new) = Password::new(new) else {
        handle.error("This cannot be a password.");
        return Ok(Code::AUTHTOK_ERR);
    };
    let change = client.change_password(&user, old, new, &handle.source());
    Ok(match change.unwrap_or(Change::Unavailable) {
        Change::Done => {
            handle.set_must_change(false);
            Code::SUCCESS
        }
        Change::NotAccepted(why) => {
            handle.error(&why);
            Code::AUTHTOK_ERR
        }
        Change::Unavailable => {
            handle.error(NO_DIRECTORY);
            Code::AUTHTOK_ERR
        }
        _ => Code::AUTHTOK_ERR,
    })
}

/// Credentials and sessions: there is nothing to do, and for our users that is a success.
pub fn nothing(handle: &Handle, _options: &Options) -> Code {
    match ours(handle) {
        Ok(_) => Code::SUCCESS,
        Err(_) => Code::IGNORE,
    }
}

fn verify(handle: &Handle, client: &Client, user: &str, typed: Vec<u8>) -> Result<Verdict, Code> {
    // An empty one would be an anonymous bind: no server hears of it.
    let password = Password::new(typed).map_err(|_| Code::AUTH_ERR)?;
    client
        .authenticate(user, password, &handle.source())
        .map_err(|_| Code::AUTHINFO_UNAVAIL)
}

/// The user's name, if it is not a local one.
fn ours(handle: &Handle) -> Result<String, Code> {
    let user = handle.user()?;
    if user.is_empty() || is_local(&user) {
        Err(Code::USER_UNKNOWN)
    } else {
        Ok(user)
    }
}

/// Looked up in the file itself: libc would ask the directory as well.
fn is_local(user: &str) -> bool {
    let mut bytes = Vec::new();
    let read =
        File::open("/etc/passwd").and_then(|file| file.take(MAX_PASSWD).read_to_end(&mut bytes));
    // Who cannot read it knows of no local user; root's name is never the directory's.
    if read.is_err() {
        return user == "root";
    }
    bytes
        .split(|byte| *byte == b'\n')
        .any(|line| line.split(|byte| *byte == b':').next() == Some(user.as_bytes()))
}

fn ended(result: Result<Code, Code>) -> Code {
    result.unwrap_or_else(|code| code)
}
