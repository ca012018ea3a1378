//! Whom the kernel takes when memory runs out, said plainly: by the control groups and scores that hold
//! on this machine. Nothing is changed here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use gateway_wire::Settings;

/// Where control groups of version 2 are mounted.
const GROUPS: &str = "/sys/fs/cgroup";

/// Who pays for memory that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutOfMemory {
    /// Each user in a control group below this one.
    User {
        /// The delegated group.
        group: PathBuf,
        /// Some or all of them have a limit.
        is_bounded: bool,
    },
    /// The largest program by its `oom_score_adj`, and those of users have 200 more than the gateway.
    LargestProgram,
    /// Everybody: this control group ends as a whole.
    Everybody(PathBuf),
}

impl OutOfMemory {
    /// As it is with these settings on this machine.
    pub fn here(settings: &Settings) -> Self {
        if let Some(group) = &settings.cgroup {
            let blocks = settings.r#match.iter();
            return Self::User {
                group: group.clone(),
                is_bounded: settings.memory_max > 0
                    || blocks.filter_map(|b| b.memory_max).any(|most| most > 0),
            };
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(Path::new(GROUPS), &own)
    }

    /// From the group of version 2 in the text of /proc/PID/cgroup up: the first that ends as a whole.
    fn of(groups: &Path, own: &str) -> Self {
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let ends_as_a_whole = |folder: &&Path| {
            let said = fs::read_to_string(folder.join("memory.oom.group"));
            said.is_ok_and(|said| said.trim() == "1")
        };
        let folder = own.map(|own| groups.join(own));
        let mut above = folder.iter().flat_map(|folder| folder.ancestors());
        above
            .find(ends_as_a_whole)
            .map_or(Self::LargestProgram, |folder| {
                Self::Everybody(folder.to_owned())
            })
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User {
                group,
                is_bounded: true,
            } => write!(
                to,
                "ends programs of the user who is over memory-max, in a control group below '{}'",
                group.display()
            ),
            Self::User { group, .. } => write!(
                to,
                "ends the largest program: users have control groups below '{}', and no memory-max",
                group.display()
            ),
            Self::LargestProgram => to.write_str(
                "ends the largest program, users' before the gateway's (oom_score_adj); no user has a \
                 control group",
            ),
            Self::Everybody(folder) => write!(
                to,
                "ends everybody's programs and the gateway: '{}' has memory.oom.group, which the kubelet's \
                 singleProcessOOMKill = true leaves out",
                folder.display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_ends_as_a_whole_is_found_from_below() {
        let groups = tempfile::tempdir().unwrap();
        let pod = groups.path().join("pod");
        fs::create_dir_all(pod.join("container")).unwrap();
        let own = "1:name=systemd:/x\n0::/pod/container\n";
        let here = || OutOfMemory::of(groups.path(), own);
        assert_eq!(here(), OutOfMemory::LargestProgram);
        fs::write(pod.join("container/memory.oom.group"), "0\n").unwrap();
        assert_eq!(here(), OutOfMemory::LargestProgram);
        fs::write(pod.join("memory.oom.group"), "1\n").unwrap();
        assert_eq!(here(), OutOfMemory::Everybody(pod));
        // The root of a container's own namespace.
        fs::write(groups.path().join("memory.oom.group"), "1\n").unwrap();
        let root = OutOfMemory::Everybody(groups.path().to_owned());
        let of = |own: &str| OutOfMemory::of(groups.path(), own);
        assert!(matches!(of("0::/\n"), OutOfMemory::Everybody(_)));
        assert_eq!(of("0::/elsewhere\n"), root);
        assert_eq!(of("4:memory:/x\n"), OutOfMemory::LargestProgram);
    }

    #[test]
    fn a_delegated_group_says_whether_it_bounds_anybody() {
        let mut settings = Settings {
            cgroup: Some("/sys/fs/cgroup/login".into()),
            ..Settings::default()
        };
        let said = OutOfMemory::here(&settings).to_string();
        assert!(said.contains("no memory-max"), "{said}");
        settings.memory_max = 1 << 30;
        let said = OutOfMemory::here(&settings).to_string();
        assert!(said.contains("the user who is over memory-max"), "{said}");
    }
}
