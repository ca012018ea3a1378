//! `login-gateway import-sshd-config`: files in, a configuration and a list of losses out. How a
//! line is translated is in `sshd_config`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gateway_wire::policy::fits;
use login_gateway::sshd_config::{Files, Kind, MAX_TEXT, Note, import};
use serde_json::json;
use service::{Exit, Failure, regular_file};

use crate::arguments::ImportSshdConfig;
use crate::pages::print;

/// Where sshd looks for included files without a leading `/`.
const BASE: &str = "/etc/ssh";

/// Prints the configuration, and what it lacks on standard error.
pub fn run(options: &ImportSshdConfig) -> Result<(), Failure> {
    let path = &options.file;
    let failed = |error: io::Error| {
        let cause = format!("read '{}': {error}", path.display());
        Failure::new(Exit::Config, cause)
    };
    let text = if path.as_os_str() == "-" {
        text_of(io::stdin()).map_err(failed)?
    } else {
        text_of(File::open(path).map_err(failed)?).map_err(failed)?
    };
    let imported = import(&path.display().to_string(), &text, &Disk)
        .map_err(|error| Failure::new(Exit::Config, error))?;
    print(imported.toml.as_bytes())?;
    if options.json {
        let notes: Vec<_> = imported.notes.iter().map(as_json).collect();
        eprintln!("{}", serde_json::to_string_pretty(&notes)?);
    } else {
        for note in &imported.notes {
            eprintln!("{}", as_text(note));
        }
    }
    let lost = imported.notes.iter().filter(|n| n.kind != Kind::Changed);
    let lost = lost.count();
    if options.strict && lost > 0 {
        let cause = format!("{lost} line(s) of '{}' have no equal", path.display());
        return Err(Failure::new(Exit::Failure, cause));
    }
    Ok(())
}

fn as_text(note: &Note) -> String {
    let Note {
        file,
        line,
        keyword,
        text,
        ..
    } = note;
    let kind = note.kind.name();
    if file.is_empty() {
        format!("{kind}: {keyword}: {text}")
    } else {
        format!("{kind}: {file}:{line}: {keyword}: {text}")
    }
}

fn as_json(note: &Note) -> serde_json::Value {
    json!({
        "kind": note.kind.name(),
        "file": note.file,
        "line": note.line,
        "keyword": note.keyword,
        "text": note.text,
    })
}

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn matching(&self, pattern: &str) -> io::Result<Vec<(String, String)>> {
        let mut found = vec![PathBuf::from("/")];
        for part in Path::new(BASE).join(pattern).components().skip(1) {
            let part = part.as_os_str().to_string_lossy();
            if !part.contains(['*', '?']) {
                found = found.into_iter().map(|p| p.join(&*part)).collect();
                continue;
            }
            let mut next = Vec::new();
            for folder in found {
                let Ok(entries) = fs::read_dir(&folder) else {
                    continue;
                };
                for entry in entries.flatten() {
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    // glob(7): a leading dot is matched by a dot alone.
                    if fits(&part, &name) && name.starts_with('.') == part.starts_with('.') {
                        next.push(entry.path());
                    }
                }
            }
            next.sort();
            found = next;
        }
        let there = found.into_iter().filter(|path| path.is_file());
        there
            .map(|path| Ok((path.display().to_string(), text_of(File::open(&path)?)?)))
            .collect()
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }
}

fn text_of(from: impl Read) -> io::Result<String> {
    let bytes = regular_file::whole(from, MAX_TEXT as u64)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("the text is not UTF-8"))
}
