//! Security identifiers of Active Directory, and the numbers they become: the same that sssd gives them
//! (`ldap_id_mapping`), so that files keep their owners.
//!
//! Ids are cut into slices; a domain's slice is chosen by a hash of its SID, the next free one if that is
//! taken. RIDs beyond one slice go into further slices, chosen by the SID and their first RID.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Further slices that are chosen as soon as a domain is known, and taken when they are used, as in sssd.
const EXTRA: u32 = 10;

/// The numbers' range: `ldap_idmap_range_min`, `_max`, `_size` and `_default_domain_sid` of sssd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Range {
    /// First id.
    pub min: u32,
    /// Behind the last id.
    pub max: u32,
    /// Ids in a slice.
    pub size: u32,
    /// The domain that gets the first slice instead of one by its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_domain_sid: Option<String>,
}

impl Default for Range {
    fn default() -> Self {
        Self {
            min: 200_000,
            max: 2_000_200_000,
            size: 200_000,
            default_domain_sid: None,
        }
    }
}

impl Range {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        if self.size == 0 || self.max <= self.min || self.max - self.min < self.size {
            return Some("ldap.id-map holds not one slice".to_owned());
        }
        let sid = self.default_domain_sid.as_deref()?;
        (!sid.starts_with("S-1-5-21-"))
            .then(|| format!("ldap.id-map.default-domain-sid: '{sid}' is no domain's SID"))
    }
}

/// The text of a binary SID (MS-DTYP 2.4.2.2).
pub fn text(bytes: &[u8]) -> Option<String> {
    let (head, parts) = bytes.split_first_chunk::<8>()?;
    let [1, count, authority @ ..] = *head else {
        return None;
    };
    // Six bytes, big-endian.
    let authority = authority
        .iter()
        .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    if parts.len() != usize::from(count) * 4 || count == 0 || count > 15 {
        return None;
    }
    let mut text = format!("S-1-{authority}");
    for part in parts.chunks_exact(4) {
        let number = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
        text += &format!("-{number}");
    }
    Some(text)
}

/// A SID as a value in a search filter (RFC 4515), its binary form; `None` if it is none.
pub fn filter_value(sid: &str) -> Option<String> {
    let mut parts = sid.strip_prefix("S-1-")?.split('-');
    let authority: u64 = parts.next()?.parse().ok()?;
    let parts: Vec<u32> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let count = u8::try_from(parts.len()).ok()?;
    let head = [&[1, count][..], &authority.to_be_bytes()[2..]].concat();
    let rest = parts.into_iter().flat_map(u32::to_le_bytes);
    let bytes = head.into_iter().chain(rest);
    Some(bytes.map(|byte| format!("\\{byte:02x}")).collect())
}

/// A SID's domain and RID; only of accounts in a domain (`S-1-5-21-...`): builtin ones have no number.
pub fn split(sid: &str) -> Option<(&str, u32)> {
    let (domain, rid) = sid.rsplit_once('-')?;
    let in_domain = domain.strip_prefix("S-1-5-21-")?.split('-').count() == 3;
    in_domain.then_some((domain, rid.parse().ok()?))
}

/// Which domain has which slices.
#[derive(Debug)]
pub struct Slices {
    range: Range,
    /// By domain and number of the slice within it.
    of: BTreeMap<(String, u32), u32>,
    taken: BTreeSet<u32>,
}

impl Slices {
    /// No domain is known yet. The order in which they become known counts when two want one slice.
    pub fn new(range: Range) -> Self {
        Self {
            range,
            of: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    /// The number of a SID.
    pub fn id(&mut self, sid: &str) -> Option<u32> {
        let (domain, rid) = split(sid)?;
        self.learn(domain);
        let (part, rest) = (rid / self.range.size, rid % self.range.size);
        let slice = self.choose(domain, part)?;
        self.taken.insert(slice);
        self.range
            .min
            .checked_add(slice.checked_mul(self.range.size)?)?
            .checked_add(rest)
    }

    /// The SIDs that a number can be of, in the domains that are known; `None` if it may be one of another.
    pub fn sids(&self, id: u32) -> Option<Vec<String>> {
        let Range { min, max, size, .. } = self.range;
        let slice = match id.checked_sub(min) {
            Some(at) if at / size < (max - min) / size => at / size,
            _ => return Some(Vec::new()),
        };
        let held = self.of.iter().filter(|(_, held)| **held == slice);
        let sids = held.filter_map(|((domain, part), _)| {
            let rid = part.checked_mul(size)?.checked_add((id - min) % size)?;
            Some(format!("{domain}-{rid}"))
        });
        let sids: Vec<String> = sids.collect();
        (!sids.is_empty()).then_some(sids)
    }

    /// Makes a domain known.
    pub fn learn(&mut self, domain: &str) {
        if !self.of.contains_key(&(domain.to_owned(), 0)) {
            let own = self.choose(domain, 0);
            self.taken.extend(own);
            for part in 1..=EXTRA {
                self.choose(domain, part);
            }
        }
    }

    fn choose(&mut self, domain: &str, part: u32) -> Option<u32> {
        let key = (domain.to_owned(), part);
        if let Some(slice) = self.of.get(&key) {
            return Some(*slice);
        }
        let count = (self.range.max - self.range.min) / self.range.size;
        let default = self.range.default_domain_sid.as_deref() == Some(domain);
        let wanted = match part {
            0 if default => 0,
            0 => murmur(domain.as_bytes()) % count,
            part => {
                let first = u64::from(part) * u64::from(self.range.size);
                murmur(format!("{domain}-{first}").as_bytes()) % count
            }
        };
        let slice = (0..count)
            .map(|step| (wanted + step) % count)
            .find(|slice| !self.taken.contains(slice))?;
        self.of.insert(key, slice);
        Some(slice)
    }
}

/// MurmurHash3 of 32 bits with sssd's seed.
fn murmur(bytes: &[u8]) -> u32 {
    let mix = |word: u32| {
        word.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut hash: u32 = 0xdead_beef;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        hash = (hash ^ mix(u32::from_le_bytes(*word)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash ^= mix(u32::from_le_bytes(last));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    const ORG: &str = "S-1-5-21-2153326666-2176343378-3404031434";

    /// What sssd's own library says to the same SIDs in the same order; `None` without it.
    fn sssd(sids: &[String]) -> Option<Vec<Option<u32>>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/idmap.py");
        let mut child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let _ = child
            .stdin
            .take()?
            .write_all((sids.join("\n") + "\n").as_bytes());
        let output = child.wait_with_output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| text.lines().map(|line| line.parse().ok()).collect())
    }

    #[test]
    fn numbers_are_those_of_sssd() {
        let mut slices = Slices::new(Range::default());
        // Recorded from libsss_idmap 2.8.2.
        for (rid, id) in [
            (513, 770_800_513),
            (1107, 770_801_107),
            (199_999, 770_999_999),
            (200_000, 504_400_000),
            (200_001, 504_400_001),
            (1_399_999, 1_140_799_999),
            (2_000_000, 212_400_000),
            (2_200_000, 443_800_000),
            (5_000_001, 1_887_200_001),
            (u32::MAX, 856_567_295),
        ] {
            assert_eq!(slices.id(&format!("{ORG}-{rid}")), Some(id), "{rid}");
        }
        assert_eq!(slices.id("S-1-5-32-544"), None);
        assert_eq!(slices.id("S-1-5-18"), None);
    }

    #[test]
    fn numbers_are_those_of_sssd_for_many_domains() {
        // Enough for domains that want one slice.
        let mut sids = Vec::new();
        for domain in 0u32..400 {
            let sid = format!(
                "S-1-5-21-{}-{}-{}",
                domain * 7919,
                domain ^ 0xabcd,
                domain + 1
            );
            for rid in [500, 1107, 250_000, 1_999_999] {
                sids.push(format!("{sid}-{rid}"));
            }
        }
        let Some(expected) = sssd(&sids) else {
            println!(
                "skipped numbers_are_those_of_sssd_for_many_domains: libsss-idmap0 or python3 is not installed"
            );
            return;
        };
        let mut slices = Slices::new(Range::default());
        for (sid, expected) in sids.iter().zip(expected) {
            assert_eq!(slices.id(sid), expected, "{sid}");
        }
    }

    #[test]
    fn a_number_leads_back_to_its_sid() {
        let mut slices = Slices::new(Range::default());
        assert_eq!(slices.sids(770_801_107), None);
        slices.learn(ORG);
        for rid in [0, 513, 1107, 199_999, 200_001, 1_399_999, 2_000_000] {
            let sid = format!("{ORG}-{rid}");
            let id = slices.id(&sid).unwrap();
            assert!(slices.sids(id).unwrap().contains(&sid), "{rid}");
        }
        // Never one of a SID, and one of a domain that is not known.
        for (id, sids) in [
            (1000, Some(vec![])),
            (2_000_200_000, Some(vec![])),
            (200_000, None),
        ] {
            assert_eq!(slices.sids(id), sids, "{id}");
        }
    }

    #[test]
    fn a_default_domain_has_the_first_slice() {
        let mut slices = Slices::new(Range {
            default_domain_sid: Some(ORG.to_owned()),
            ..Range::default()
        });
        assert_eq!(slices.id(&format!("{ORG}-1107")), Some(201_107));
    }

    #[test]
    fn binary_form() {
        let mut bytes = vec![1, 5, 0, 0, 0, 0, 0, 5];
        for part in [21u32, 2_153_326_666, 2_176_343_378, 3_404_031_434, 1107] {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
        assert_eq!(text(&bytes), Some(format!("{ORG}-1107")));
        let hex = bytes.iter().map(|byte| format!("\\{byte:02x}"));
        assert_eq!(filter_value(&format!("{ORG}-1107")), Some(hex.collect()));
        assert_eq!(filter_value("S-1-5-*"), None);
        assert_eq!(text(&bytes[..27]), None);
        assert_eq!(text(&[]), None);
        assert_eq!(text(&[2, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]), None);
        assert_eq!(text(&[1, 255, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]), None);
        assert_eq!(
            text(&[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0]),
            Some("S-1-5-32-544".to_owned())
        );
    }
}
