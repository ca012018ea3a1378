//! The ids that exist in this user namespace (`/proc/self/uid_map`, user_namespaces(7)).
//!
//! In a pod with `hostUsers: false` only 0 to 65535 do: a larger gid makes `setgroups` fail as a whole.

/// Ranges of ids, as (first, count).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<(u64, u64)>);

impl IdMap {
    /// The ids of this process; all of them if that cannot be read.
    pub fn of_this_process() -> Self {
        std::fs::read_to_string("/proc/self/uid_map")
            .map_or_else(|_| Self::all(), |text| Self::parse(&text))
    }

    /// Reads the kernel's lines: first id inside, first id outside, count.
    pub fn parse(text: &str) -> Self {
        let range = |line: &str| {
            let mut fields = line.split_ascii_whitespace().map(str::parse);
            let (first, _, count) = (fields.next()?.ok()?, fields.next()?, fields.next()?.ok()?);
            Some((first, count))
        };
        let ranges: Vec<_> = text.lines().filter_map(range).collect();
        if ranges.is_empty() {
            Self::all()
        } else {
            Self(ranges)
        }
    }

    /// True if a process here can have this id.
    pub fn contains(&self, id: u32) -> bool {
        let id = u64::from(id);
        self.0
            .iter()
            .any(|(first, count)| (*first..first.saturating_add(*count)).contains(&id))
    }

    fn all() -> Self {
        Self(vec![(0, 1 << 32)])
    }
}

#[cfg(test)]
mod tests {
    use super::IdMap;

    #[test]
    fn ranges() {
        let pod = IdMap::parse("         0     100000      65536\n");
        assert!(pod.contains(65535) && !pod.contains(65536));
        let host = IdMap::parse("         0          0 4294967295\n");
        assert!(host.contains(4_294_967_294));
        let split = IdMap::parse("0 1000 1\n1 100000 65535\n");
        assert!(split.contains(0) && split.contains(65535) && !split.contains(70000));
        assert!(IdMap::parse("").contains(70000));
    }
}
