//! `authorized_keys` as sshd(8) describes it: is a given key in it? Read as the user, since shared
//! homes are closed to root.
//!
//! Options that would restrict the login are not carried out here, so a line with such an option
//! counts for nothing: a restriction is never dropped in silence.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_wire::session::KeyQuestion;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Options that ask for what this gateway does anyway: it forwards nothing and runs no rc file.
const ALWAYS_SO: [&str; 4] = [
    "no-port-forwarding",
    "no-agent-forwarding",
    "no-x11-forwarding",
    "no-user-rc",
];

/// Whether one of the files holds the key.
pub fn contain(question: &KeyQuestion) -> bool {
    question.files.iter().any(|file| {
        let path = question.home.join(file);
        match read(&path, &question.home) {
            Ok(text) => holds(&text, &question.key, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                eprintln!("info: authorized keys '{}': {error}", path.display());
                false
            }
        }
    })
}

/// Reads the file if nobody but its user and root can change it, its folders up to the home
/// included (`StrictModes` of sshd_config(5)).
fn read(path: &Path, home: &Path) -> io::Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags((nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY).bits())
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let uid = nix::unistd::geteuid().as_raw();
    let guarded = |meta: &std::fs::Metadata| {
        (meta.uid() == uid || meta.uid() == 0) && meta.mode() & 0o022 == 0
    };
    if !guarded(&meta) {
        return Err(io::Error::other("others may write it, so it is not used"));
    }
    // The path behind links is what matters.
    let real = path.canonicalize()?;
    let home = home.canonicalize()?;
    for folder in real.ancestors().skip(1) {
        if !guarded(&std::fs::metadata(folder)?) {
            let text = format!(
                "others may write folder '{}', so it is not used",
                folder.display()
            );
            return Err(io::Error::other(text));
        }
        if folder == home {
            break;
        }
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn holds(text: &str, key: &[u8], path: &Path) -> bool {
    text.lines().enumerate().any(|(number, line)| match parse(line) {
        Some(entry) if entry.key == key => {
            for option in &entry.options {
                if !ALWAYS_SO.contains(&option.to_ascii_lowercase().as_str()) {
                    let (path, number) = (path.display(), number + 1);
                    eprintln!("info: {path}:{number}: option '{option}' is not supported, line ignored");
                    return false;
                }
            }
            true
        }
        _ => false,
    })
}

struct Entry<'a> {
    options: Vec<&'a str>,
    key: Vec<u8>,
}

/// `[options] type base64 [comment]`; `None` for comments and lines that are no key.
fn parse(line: &str) -> Option<Entry<'_>> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (first, rest) = split_word(line)?;
    let (options, kind, rest) = if is_key_type(first) {
        (Vec::new(), first, rest)
    } else {
        let (kind, rest) = split_word(rest)?;
        (split_options(first), kind, rest)
    };
    let (encoded, _comment) = split_word(rest)?;
    let key = STANDARD.decode(encoded).ok()?;
    // The wire form starts with the type as a string, RFC 4253 section 6.6.
    let named = key
        .get(4..)
        .is_some_and(|tail| tail.starts_with(kind.as_bytes()));
    (is_key_type(kind) && named).then_some(Entry { options, key })
}

fn is_key_type(word: &str) -> bool {
    [
        "ssh-ed25519",
        "ssh-rsa",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ]
    .contains(&word)
        || word.starts_with("ecdsa-sha2-nistp")
}

/// The first word, where quotes keep blanks together, and what follows.
fn split_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = outside_quotes(text, |c| c == ' ' || c == '\t').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn split_options(mut text: &str) -> Vec<&str> {
    let mut options = Vec::new();
    while let Some(at) = outside_quotes(text, |c| c == ',') {
        options.push(&text[..at]);
        text = &text[at + 1..];
    }
    options.push(text);
    options
}

/// Position of the first character outside double quotes that matches; `\"` does not end a quote.
fn outside_quotes(text: &str, matches: impl Fn(char) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        let plain = !std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && plain => escaped = true,
            '"' if plain => quoted = !quoted,
            c if !quoted && matches(c) => return Some(at),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn lines() {
        let key = STANDARD.decode(KEY).unwrap();
        let check = |line: &str, expected: bool| {
            let line = line.replace("KEY", KEY);
            assert_eq!(holds(&line, &key, Path::new("f")), expected, "{line}");
        };
        check("ssh-ed25519 KEY", true);
        check("ssh-ed25519 KEY alice@laptop with words", true);
        check("  \tssh-ed25519\tKEY\r", true);
        check("# ssh-ed25519 KEY", false);
        check("no-port-forwarding,no-X11-forwarding ssh-ed25519 KEY", true);
        check("command=\"echo a, \\\" b\" ssh-ed25519 KEY", false);
        check("from=\"10.0.0.0/8\",no-user-rc ssh-ed25519 KEY", false);
        check("restrict ssh-ed25519 KEY", false);
        check("cert-authority ssh-ed25519 KEY", false);
        check("ssh-rsa KEY", false);
        check("ssh-ed25519 KEYx", false);
        check("ssh-ed25519", false);
        check("\"unclosed ssh-ed25519 KEY", false);
        check("", false);
        check("garbage\nssh-ed25519 KEY", true);
    }

    #[test]
    fn files_that_others_may_write_are_not_used() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".ssh");
        let file = folder.join("authorized_keys");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, format!("ssh-ed25519 {KEY}\n")).unwrap();
        let question = KeyQuestion {
            home: home.path().into(),
            files: vec![".ssh/absent".into(), ".ssh/authorized_keys".into()],
            key: STANDARD.decode(KEY).unwrap(),
            principals: None,
            principals_files: Vec::new(),
            user: "alice".to_owned().try_into().unwrap(),
            source: [192, 0, 2, 1].into(),
        };
        let modes = [
            (0o700, 0o600, true),
            (0o700, 0o622, false),
            (0o770, 0o600, false),
        ];
        for (folder_mode, file_mode, expected) in modes {
            for (path, mode) in [(&folder, folder_mode), (&file, file_mode)] {
                std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            }
            assert_eq!(
                contain(&question),
                expected,
                "{folder_mode:o} {file_mode:o}"
            );
        }
    }
}
