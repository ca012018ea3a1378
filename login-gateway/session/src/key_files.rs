//! The files that say which keys may log in, read as the user, since shared homes are closed to
//! root. What their lines mean is `authorized_keys`'s matter.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_wire::policy::Restrictions;
use gateway_wire::session::{KeyAnswer, KeyQuestion, MAX_KEYS, Output};
use login_gateway_session::authorized_keys::{self, Search};
use service::regular_file;

/// Descriptor of a command's output.
const OUTPUT: i32 = 3;

/// Answers from the lines of the question and from the user's files.
pub fn answer(question: &KeyQuestion) -> KeyAnswer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let mut search = Search::default();
    let lines = question.lines.join("\n");
    search.read(question, &lines, now, |_, why| {
        eprintln!("info: a key that is not from the user's files counts for nothing: {why}");
    });
    for path in paths(question, &question.files) {
        if search.found.is_some() {
            break;
        }
        if let Some(text) = text(&path, &question.home) {
            search.read(question, &text, now, |number, why| {
                let path = path.display();
                eprintln!("info: {path}:{number}: the line counts for nothing: {why}");
            });
        }
    }
    let output = question.output.map(|kind| (kind, output()));
    if let Some((Output::Keys, text)) = &output {
        search.read(question, text, now, |number, why| {
            eprintln!("info: authorized-keys-command: line {number} counts for nothing: {why}");
        });
    }
    let from_command = output
        .filter(|(kind, _)| *kind == Output::Principals)
        .and_then(|(_, text)| {
            authorized_keys::principal(question, &text, now, |number, why| {
                eprintln!(
                    "info: authorized-principals-command: line {number} counts for nothing: {why}"
                );
            })
        });
    KeyAnswer {
        principal: principal(question, now).or(from_command),
        found: search.found,
        authority: search.authority,
    }
}

/// What a command of the policy has said.
fn output() -> String {
    let limit = usize::try_from(MAX_KEYS).unwrap_or(usize::MAX);
    let text = sys::fds::take_inherited(OUTPUT).and_then(|fd| sys::fds::read_shared(&fd, limit));
    match text {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => {
            eprintln!("error: output of a command: {error}");
            String::new()
        }
    }
}

fn principal(question: &KeyQuestion, now: u64) -> Option<Restrictions> {
    question.principals.as_ref()?;
    paths(question, &question.principals_files)
        .into_iter()
        .find_map(|path| {
            let text = text(&path, &question.home)?;
            authorized_keys::principal(question, &text, now, |number, why| {
                let path = path.display();
                eprintln!("info: {path}:{number}: the line counts for nothing: {why}");
            })
        })
}

/// The files by their real names; one whose name cannot be made is left out.
fn paths(question: &KeyQuestion, files: &[PathBuf]) -> Vec<PathBuf> {
    let expand = |file: &PathBuf| match expand(file, question) {
        Some(path) => Some(question.home.join(path)),
        None => {
            eprintln!(
                "warn: file '{}': only %u, %h and %% are known",
                file.display()
            );
            None
        }
    };
    files.iter().filter_map(expand).collect()
}

fn expand(file: &Path, question: &KeyQuestion) -> Option<PathBuf> {
    let mut path = String::new();
    let mut rest = file.to_str()?.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            path.push(c);
            continue;
        }
        match rest.next()? {
            '%' => path.push('%'),
            'u' => path.push_str(question.user.as_str()),
            'h' => path.push_str(question.home.to_str()?),
            _ => return None,
        }
    }
    Some(path.into())
}

fn text(path: &Path, home: &Path) -> Option<String> {
    match read(path, home) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            eprintln!("info: file '{}': {error}", path.display());
            None
        }
    }
}

/// Reads the file if nobody but its user and root can change it, its folders up to the home, or for
/// a file elsewhere up to the root, included (`StrictModes` of sshd_config(5)).
fn read(path: &Path, home: &Path) -> io::Result<String> {
    let (file, meta) = regular_file::open(path)?;
    let uid = nix::unistd::geteuid().as_raw();
    let guarded = |meta: &std::fs::Metadata| {
        (meta.uid() == uid || meta.uid() == 0) && meta.mode() & 0o022 == 0
    };
    if !guarded(&meta) {
        return Err(io::Error::other("others may write it, so it is not used"));
    }
    // The path behind links is what matters.
    let real = path.canonicalize()?;
    // A file elsewhere is good without a home.
    let home = home.canonicalize().ok();
    for folder in real.ancestors().skip(1) {
        if !guarded(&std::fs::metadata(folder)?) {
            let text = format!(
                "others may write folder '{}', so it is not used",
                folder.display()
            );
            return Err(io::Error::other(text));
        }
        if Some(folder) == home.as_deref() {
            break;
        }
    }
    let text = regular_file::whole(file, MAX_KEYS)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn question(home: &Path) -> KeyQuestion {
        KeyQuestion {
            home: home.into(),
            files: vec![".ssh/absent".into(), ".ssh/authorized_keys".into()],
            lines: Vec::new(),
            key: STANDARD.decode(KEY).unwrap(),
            principals: None,
            output: None,
            principals_files: vec!["%h/.ssh/principals".into()],
            user: "alice".to_owned().try_into().unwrap(),
            source: [192, 0, 2, 1].into(),
        }
    }

    #[test]
    fn files_that_others_may_write_are_not_used() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".ssh");
        let file = folder.join("authorized_keys");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, format!("ssh-ed25519 {KEY}\n")).unwrap();
        let question = question(home.path());
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
                answer(&question).found.is_some(),
                expected,
                "{folder_mode:o} {file_mode:o}"
            );
        }
    }

    #[test]
    fn lines_from_elsewhere_and_files_of_principals() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/principals"), "restrict staff\n").unwrap();
        let mut question = question(home.path());
        question.lines = vec![format!("no-pty ssh-ed25519 {KEY}"), "x".into()];
        let found = answer(&question);
        assert!(!found.found.unwrap().tty && found.principal.is_none());
        question.principals = Some(vec!["staff".into()]);
        let found = answer(&question);
        assert!(found.found.is_none() && !found.principal.unwrap().tty);
    }

    #[test]
    fn percent_signs() {
        let question = question(Path::new("/home/alice"));
        let check = |file: &str, expected: Option<&str>| {
            let path = expand(Path::new(file), &question);
            assert_eq!(path.as_deref(), expected.map(Path::new), "{file}");
        };
        check("/etc/keys/%u", Some("/etc/keys/alice"));
        check("%h/.keys/%u.pub", Some("/home/alice/.keys/alice.pub"));
        check("a%%b", Some("a%b"));
        check("a%%u", Some("a%u"));
        check("%%%u", Some("%alice"));
        check("%x", None);
        check("100%", None);
        check("%%", Some("%"));
        check("plain", Some("plain"));
    }
}
