//! The configuration on disk. A new one is written whole beside the old and takes its place in
//! one step: clients see all of the old or all of the new, and never a file that is no more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use slurm_wire::configuration::{CONTENT_LIMIT, ConfigFile, Configuration};
use slurm_wire::slurm_conf::SlurmConf;

use crate::error::ConfigError;

const MAIN: &str = "slurm.conf";

/// Whether a configuration was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took the place of another, or of none.
    Installed,
    /// It was there already, byte for byte.
    Unchanged,
}

/// The directory `conf` in the run directory.
#[derive(Debug)]
pub struct Cache {
    run_dir: PathBuf,
    cluster: Option<String>,
}

/// Name to content and whether it is executable.
type Files = BTreeMap<String, (Vec<u8>, bool)>;

impl Cache {
    /// The cache in `run_dir`; `cluster` refuses all others.
    pub fn new(run_dir: &Path, cluster: Option<&str>) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            cluster: cluster.map(str::to_lowercase),
        }
    }

    /// Where clients look.
    pub fn directory(&self) -> PathBuf {
        self.run_dir.join("conf")
    }

    /// The settings of the configuration that is there.
    pub fn settings(&self) -> Option<SlurmConf> {
        settings(&read(&self.directory()).ok()?)
    }

    /// Checks a configuration and puts it in place, unless it is there already.
    ///
    /// # Errors
    /// [`ConfigError::Unacceptable`] for names that lead elsewhere, no slurm.conf, or another
    /// cluster; [`ConfigError::Write`]. The configuration in place then stays.
    pub fn install(&self, configuration: &Configuration) -> Result<Outcome, ConfigError> {
        let files = self.checked(configuration)?;
        if read(&self.directory()).is_ok_and(|present| present == files) {
            return Ok(Outcome::Unchanged);
        }
        let fresh = self.run_dir.join(format!(".conf.{}", std::process::id()));
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| ConfigError::Write { path, source }
        };
        remove(&fresh).map_err(failed(&fresh))?;
        let written = write(&fresh, &files)
            .and_then(|()| swap(&fresh, &self.directory()))
            .map_err(failed(&self.directory()));
        // After the swap this is the old directory; after a failure the unfinished new one.
        if let Err(error) = remove(&fresh) {
            tracing::warn!(event = "cache.leftover", path = %fresh.display(), %error);
        }
        written.map(|()| Outcome::Installed)
    }

    /// Puts what another cache holds in place, if there is nothing here; `true` if that was done.
    pub fn restore(&self, from: &Self) -> bool {
        if self.directory().join(MAIN).exists() {
            return false;
        }
        let Ok(files) = read(&from.directory()) else {
            return false;
        };
        let file = |(name, (content, execute))| ConfigFile {
            name,
            content: Some(content),
            execute,
        };
        let configuration = Configuration {
            files: files.into_iter().map(file).collect(),
            spool_directory: None,
        };
        match self.install(&configuration) {
            Ok(outcome) => outcome == Outcome::Installed,
            Err(error) => {
                let error = service::exit::chain(&error);
                tracing::warn!(event = "cache.not_restored", error);
                false
            }
        }
    }

    /// Removes what an earlier run may have left unfinished.
    pub fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.run_dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".conf.") || name.starts_with(".config-status.json.") {
                let _ = remove(&entry.path());
            }
        }
    }

    fn checked(&self, configuration: &Configuration) -> Result<Files, ConfigError> {
        let mut files = Files::new();
        for ConfigFile {
            name,
            content,
            execute,
        } in &configuration.files
        {
            check_name(name)?;
            if let Some(content) = content {
                files.insert(name.clone(), (content.clone(), *execute));
            }
        }
        let settings = settings(&files)
            .ok_or_else(|| ConfigError::Unacceptable("it has no slurm.conf".to_owned()))?;
        if let (Some(pinned), found) = (&self.cluster, settings.cluster_name.unwrap_or_default())
            && *pinned != found
        {
            let words = format!("it is of cluster '{found}', not of '{pinned}'");
            return Err(ConfigError::Unacceptable(words));
        }
        Ok(files)
    }
}

/// The original writes `../evil.conf` where it leads; this refuses the whole configuration.
fn check_name(name: &str) -> Result<(), ConfigError> {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || "._-+@%".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.chars().all(ordinary) {
        return Err(ConfigError::Unacceptable(format!(
            "the file name {name:?} is not allowed"
        )));
    }
    Ok(())
}

fn settings(files: &Files) -> Option<SlurmConf> {
    let text = |name: &str| {
        files
            .get(name)
            .map(|(content, _)| String::from_utf8_lossy(content).into_owned())
    };
    Some(SlurmConf::parse(&text(MAIN)?, &mut |name| text(name)))
}

fn read(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let mut content = Vec::new();
        let file = File::open(entry.path())?;
        let execute = file.metadata()?.permissions().mode() & 0o100 != 0;
        file.take(CONTENT_LIMIT as u64 + 1)
            .read_to_end(&mut content)?;
        files.insert(name_of(entry.file_name())?, (content, execute));
    }
    Ok(files)
}

fn name_of(name: OsString) -> io::Result<String> {
    name.into_string()
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Modes are set after creation: the umask plays no part.
fn write(directory: &Path, files: &Files) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for (name, (content, execute)) in files {
        let mode = if *execute { 0o755 } else { 0o644 };
        let path = directory.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(content)?;
        // A name without its content must not be what a power cut leaves.
        file.sync_all()?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Puts `fresh` where `place` is; what was there is at `fresh` afterwards.
fn swap(fresh: &Path, place: &Path) -> io::Result<()> {
    match renameat2(
        AT_FDCWD,
        fresh,
        AT_FDCWD,
        place,
        RenameFlags::RENAME_EXCHANGE,
    ) {
        Err(Errno::ENOENT) => fs::rename(fresh, place),
        // Network file systems cannot exchange: there, clients may for a moment see none.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            let aside = fresh.with_extension("old");
            fs::rename(place, &aside)?;
            fs::rename(fresh, place)?;
            fs::rename(aside, fresh)
        }
        other => Ok(other?),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if meta.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(list: &[(&str, Option<&str>)]) -> Configuration {
        let file = |(name, content): &(&str, Option<&str>)| ConfigFile {
            name: (*name).to_owned(),
            content: content.map(|text| text.as_bytes().to_vec()),
            execute: name.ends_with(".sh"),
        };
        Configuration {
            files: list.iter().map(file).collect(),
            spool_directory: None,
        }
    }

    fn listing(cache: &Cache) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(cache.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    const LAB: (&str, Option<&str>) = ("slurm.conf", Some("ClusterName=Lab\nInclude more.conf\n"));

    #[test]
    fn installs_swaps_and_drops_stale_files() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), Some("LAB"));
        let first = configuration(&[
            LAB,
            ("more.conf", Some("SlurmdPort=7000")),
            ("old.conf", Some("")),
            ("hook.sh", Some("#!/bin/sh\n")),
            ("absent.conf", None),
        ]);
        assert_eq!(cache.install(&first).unwrap(), Outcome::Installed);
        assert_eq!(cache.install(&first).unwrap(), Outcome::Unchanged);
        assert_eq!(
            listing(&cache),
            ["hook.sh", "more.conf", "old.conf", "slurm.conf"]
        );
        assert_eq!(cache.settings().unwrap().slurmd_port, Some(7000));
        let mode = |name: &str| {
            fs::metadata(cache.directory().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (mode("hook.sh"), mode("slurm.conf"), mode(".")),
            (0o755, 0o644, 0o755)
        );
        let second = configuration(&[LAB, ("absent.conf", Some("x"))]);
        assert_eq!(cache.install(&second).unwrap(), Outcome::Installed);
        assert_eq!(listing(&cache), ["absent.conf", "slurm.conf"]);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing left beside"
        );
    }

    #[test]
    fn an_empty_place_is_filled_from_another() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = Cache::new(old.path(), None);
        let place = Cache::new(new.path(), Some("lab"));
        assert!(!place.restore(&kept), "nothing there");
        kept.install(&configuration(&[LAB, ("hook.sh", Some("x"))]))
            .unwrap();
        assert!(place.restore(&kept));
        assert_eq!(listing(&place), ["hook.sh", "slurm.conf"]);
        let other = configuration(&[("slurm.conf", Some("ClusterName=other\n"))]);
        kept.install(&other).unwrap();
        assert!(!place.restore(&kept), "what is there stays");
        fs::remove_dir_all(place.directory()).unwrap();
        assert!(!place.restore(&kept), "of another cluster");
    }

    #[test]
    fn a_reader_never_sees_half_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), None);
        let with = |text: &str| {
            let name = format!("ClusterName=x\n#{text}");
            configuration(&[("slurm.conf", Some(&name)), ("pair.conf", Some(text))])
        };
        cache.install(&with("0")).unwrap();
        let directory = cache.directory();
        let done = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(order) {
                    // One directory handle sees one generation, old or new, whole.
                    let main = fs::read_to_string(directory.join("slurm.conf"));
                    assert!(main.is_ok_and(|text| text.starts_with("ClusterName=x\n#")));
                }
            });
            for n in 1..50 {
                cache.install(&with(&n.to_string())).unwrap();
            }
            done.store(true, order);
        });
    }

    #[test]
    fn what_is_refused_leaves_the_old_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), Some("lab"));
        cache.install(&configuration(&[LAB])).unwrap();
        for name in [
            "../evil.conf",
            "/etc/x",
            "a/b",
            ".hidden",
            "..",
            "",
            "a\nb",
            "a b",
            "é",
        ] {
            let error = cache.install(&configuration(&[LAB, (name, Some("x"))]));
            assert!(
                matches!(error, Err(ConfigError::Unacceptable(_))),
                "{name:?}"
            );
        }
        let other = configuration(&[("slurm.conf", Some("ClusterName=other\n"))]);
        assert!(
            cache
                .install(&other)
                .unwrap_err()
                .to_string()
                .contains("cluster 'other'")
        );
        assert!(cache.install(&configuration(&[])).is_err());
        assert!(
            cache
                .install(&configuration(&[("slurm.conf", None)]))
                .is_err()
        );
        assert_eq!(listing(&cache), ["slurm.conf"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_in_its_place_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("keep"), "x").unwrap();
        let cache = Cache::new(folder.path(), None);
        std::os::unix::fs::symlink(elsewhere.path(), cache.directory()).unwrap();
        cache.install(&configuration(&[LAB])).unwrap();
        assert!(fs::symlink_metadata(cache.directory()).unwrap().is_dir());
        assert!(elsewhere.path().join("keep").exists());
    }
}
