//! The few settings of slurm.conf that a signer and its configuration process act on.
//! Not a full parser: node and partition lines are passed over, nothing is validated for Slurm.

use std::time::Duration;

/// How deep files may include each other.
const INCLUDE_DEPTH: u8 = 8;
/// Files read by includes in all: whoever answers a fetch must not keep us reading.
const INCLUDES: u16 = 512;
/// And their bytes.
const INCLUDED: usize = 16 << 20;

/// Settings read from slurm.conf; `None` where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlurmConf {
    /// `ClusterName`, lower-cased as Slurm reads it.
    pub cluster_name: Option<String>,
    /// `AuthType`.
    pub auth_type: Option<String>,
    /// `TLSType` (25.05 and later).
    pub tls_type: Option<String>,
    /// `SlurmUser`: a name or a number.
    pub slurm_user: Option<String>,
    /// `SlurmdPort`: where pushes are expected, too.
    pub slurmd_port: Option<u16>,
    /// `SlurmctldPort`, the first of a range.
    pub slurmctld_port: Option<u16>,
    /// `SlurmctldHost` in order: where to reach each, the address in parentheses where there is one.
    pub slurmctld_hosts: Vec<String>,
    /// `AuthInfo=ttl=`: how long tokens live. 0 and negative values mean the default.
    pub token_lifetime: Option<Duration>,
    /// `AuthInfo=use_client_ids`: identities go into tokens.
    pub use_client_ids: bool,
    /// `GroupUpdateTime`: how long group lists may be kept.
    pub group_update_time: Option<Duration>,
}

impl SlurmConf {
    /// Reads the text of slurm.conf. `include` gives the text of a file named by an `Include`
    /// line, or `None` if it is not to be had; such a line is then passed over.
    pub fn parse(text: &str, include: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        let mut conf = Self::default();
        let (mut left, mut bytes) = (INCLUDES, INCLUDED);
        let mut include = |name: &str| {
            left = left.checked_sub(1)?;
            let text = include(name)?;
            match bytes.checked_sub(text.len()) {
                Some(rest) => bytes = rest,
                // The end of it.
                None => left = 0,
            }
            (left > 0).then_some(text)
        };
        conf.read(text, &mut include, 0);
        conf
    }

    fn read(&mut self, text: &str, include: &mut dyn FnMut(&str) -> Option<String>, depth: u8) {
        for line in logical_lines(text) {
            let line = line.trim();
            if let Some(name) = include_line(line) {
                if depth < INCLUDE_DEPTH
                    && let Some(text) = include(name)
                {
                    self.read(&text, include, depth + 1);
                }
            } else {
                for (key, value) in pairs(line) {
                    self.set(&key.to_ascii_lowercase(), value);
                }
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "clustername" => self.cluster_name = Some(value.to_lowercase()),
            "authtype" => self.auth_type = Some(value.to_owned()),
            "tlstype" => self.tls_type = Some(value.to_owned()),
            "slurmuser" => self.slurm_user = Some(value.to_owned()),
            "slurmdport" => self.slurmd_port = value.parse().ok(),
            "slurmctldport" => {
                self.slurmctld_port = value.split('-').next().and_then(|port| port.parse().ok());
            }
            "slurmctldhost" => {
                let (name, rest) = value.split_once('(').unwrap_or((value, ""));
                let address = rest.split(')').next().unwrap_or_default().trim();
                let place = if address.is_empty() {
                    name.trim()
                } else {
                    address
                };
                self.slurmctld_hosts.push(place.to_owned());
            }
            "groupupdatetime" => {
                self.group_update_time = value.parse().ok().map(Duration::from_secs);
            }
            "authinfo" => self.set_auth_info(value),
            _ => {}
        }
    }

    fn set_auth_info(&mut self, value: &str) {
        for part in value.split(',').map(str::trim) {
            if part.eq_ignore_ascii_case("use_client_ids") {
                self.use_client_ids = true;
            } else if let Some(seconds) = part.strip_prefix("ttl=") {
                self.token_lifetime = seconds
                    .parse::<i64>()
                    .ok()
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .filter(|seconds| *seconds > 0)
                    .map(Duration::from_secs);
            }
        }
    }
}

/// Lines without comments, with continued lines joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        // "\#" is a literal number sign and does not start a comment.
        let comment = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|at| *at == 0 || line.as_bytes().get(at - 1) != Some(&b'\\'));
        let line = comment.map_or(line, |at| &line[..at]);
        if let Some(part) = line.trim_end().strip_suffix('\\') {
            open.push_str(part);
        } else {
            open.push_str(line);
            lines.push(std::mem::take(&mut open));
        }
    }
    lines.push(open);
    lines
}

/// `key = value` any number of times; a value with blanks in it stands in quotes. What is none of them ends
/// the line.
fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        rest = after;
        (!key.is_empty() && !key.contains(char::is_whitespace)).then_some((key, value))
    })
}

fn include_line(line: &str) -> Option<&str> {
    let (word, name) = line.split_once(char::is_whitespace)?;
    word.eq_ignore_ascii_case("include").then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SlurmConf {
        SlurmConf::parse(text, &mut |_| None)
    }

    #[test]
    fn settings() {
        let conf = parse(
            "# head\nclustername = TestCl # mine\nSlurmctldHost=ctl(10.0.0.1)\nSlurmctldHost=b\n\
             AuthType=auth/slurm\nTLSType=tls/s2n\nAuthInfo=use_client_ids,ttl=123\nSlurmUser=slurm\n\
             SlurmdPort=7001\nSlurmctldPort=6817-6820\nGroupUpdateTime=60\n\
             NodeName=c[1-2] CPUs=2\nPartitionName=p Nodes=ALL \\\n  Default=YES\n",
        );
        assert_eq!(conf.cluster_name.as_deref(), Some("testcl"));
        assert_eq!(conf.slurmctld_hosts, ["10.0.0.1", "b"]);
        assert_eq!(conf.auth_type.as_deref(), Some("auth/slurm"));
        assert_eq!(conf.tls_type.as_deref(), Some("tls/s2n"));
        assert!(conf.use_client_ids);
        assert_eq!(conf.token_lifetime, Some(Duration::from_secs(123)));
        assert_eq!(conf.slurm_user.as_deref(), Some("slurm"));
        assert_eq!(conf.slurmd_port, Some(7001));
        assert_eq!(conf.slurmctld_port, Some(6817));
        assert_eq!(conf.group_update_time, Some(Duration::from_secs(60)));
    }

    #[test]
    fn odd_lines() {
        assert_eq!(parse(""), SlurmConf::default());
        assert_eq!(parse("AuthInfo=ttl=0").token_lifetime, None);
        assert_eq!(parse("AuthInfo=ttl=-5").token_lifetime, None);
        assert_eq!(parse("SlurmdPort=70000").slurmd_port, None);
        assert_eq!(
            parse("Cluster\\\nName=x").cluster_name.as_deref(),
            Some("x")
        );
        assert_eq!(parse("#ClusterName=x\n\\").cluster_name, None);
        // Several in one line, as Slurm reads them.
        let line = "ClusterName = a SlurmdPort=7  SlurmUser=\"b c\" AuthType=auth/slurm";
        let conf = parse(line);
        assert_eq!(conf.cluster_name.as_deref(), Some("a"));
        assert_eq!(conf.slurmd_port, Some(7));
        assert_eq!(conf.slurm_user.as_deref(), Some("b c"));
        assert_eq!(conf.auth_type.as_deref(), Some("auth/slurm"));
        for junk in ["=", "x y=z ClusterName=a", "ClusterName", "a=\""] {
            assert_eq!(parse(junk), SlurmConf::default(), "{junk}");
        }
        assert_eq!(parse("SlurmctldHost=ctl()").slurmctld_hosts, ["ctl"]);
    }

    #[test]
    fn includes_end() {
        let mut asked = 0;
        let conf = SlurmConf::parse("Include self\nClusterName=a", &mut |name| {
            assert_eq!(name, "self");
            asked += 1;
            Some("include self\nSlurmUser=u".to_owned())
        });
        assert_eq!((conf.slurm_user.as_deref(), asked), (Some("u"), 8));
        // Each of a hundred includes a hundred, eight deep: nobody waits for that.
        let hundred = "Include self\n".repeat(100);
        let mut asked = 0;
        let conf = SlurmConf::parse(&format!("{hundred}ClusterName=a"), &mut |_| {
            asked += 1;
            Some(hundred.clone())
        });
        assert_eq!((conf.cluster_name.as_deref(), asked), (Some("a"), INCLUDES));
        // Nor for long ones.
        let long = format!("Include self\n{}", "#\n".repeat(INCLUDED / 8));
        let mut asked = 0;
        let conf = SlurmConf::parse(&format!("{hundred}ClusterName=a"), &mut |_| {
            asked += 1;
            Some(long.clone())
        });
        assert_eq!((conf.cluster_name.as_deref(), asked), (Some("a"), 4));
    }
}
