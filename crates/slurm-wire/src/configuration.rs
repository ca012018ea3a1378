//! REQUEST_CONFIG, RESPONSE_CONFIG and the same files inside REQUEST_RECONFIGURE_SACKD.
//! File names are handed on as sent: whoever writes them to a disk must judge them.

use crate::{Packer, ProtocolVersion, Unpacker, WireError, pack::length};

/// Most files in one configuration.
pub const FILES_LIMIT: u32 = 4096;
/// Most bytes of a file name.
pub const NAME_LIMIT: usize = 255;
/// Most bytes of one file.
pub const CONTENT_LIMIT: usize = 16 * 1024 * 1024;

/// A list that is not there, as Slurm packs it.
const NO_LIST: u32 = 0xffff_fffe;

/// Which files are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Client files, once.
    Client,
    /// Client files, and register this node for pushes.
    ClientAndRegister,
}

impl Wanted {
    fn flags(self) -> u32 {
        match self {
            Self::Client => 0,
            Self::ClientAndRegister => 2,
        }
    }
}

/// Body of REQUEST_CONFIG: `u32` flags and, since 25.05, the `u16` port for pushes
/// (0: SlurmdPort).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigRequest {
    /// Which files.
    pub wanted: Wanted,
    /// Where pushes are to go; lost in versions before 25.05.
    pub port: u16,
}

impl ConfigRequest {
    /// Packs the body.
    #[must_use]
    pub fn encode(self, version: ProtocolVersion) -> Vec<u8> {
        let mut body = Packer::new();
        body.u32(self.wanted.flags());
        if version >= ProtocolVersion::V25_05 {
            body.u16(self.port);
        }
        body.finish()
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`WireError::Value`] for other flags (1 asks for slurmd's files) and those of the fields.
    pub fn decode(body: &[u8], version: ProtocolVersion) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(body);
        let wanted = match bytes.u32("flags")? {
            0 => Wanted::Client,
            2 => Wanted::ClientAndRegister,
            other => {
                return Err(WireError::Value {
                    field: "flags",
                    value: u64::from(other),
                });
            }
        };
        let port = if version >= ProtocolVersion::V25_05 {
            bytes.u16("port")?
        } else {
            0
        };
        bytes.end()?;
        Ok(Self { wanted, port })
    }
}

/// One file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its name as sent, unchecked.
    pub name: String,
    /// Its content; `None` if the controller has no such file. An empty file is an empty vector.
    pub content: Option<Vec<u8>>,
    /// Whether it is to be executable.
    pub execute: bool,
}

/// Body of RESPONSE_CONFIG and of REQUEST_RECONFIGURE_SACKD.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// All files the controller knows of, absent ones included.
    pub files: Vec<ConfigFile>,
    /// slurmd's spool directory; null for login nodes.
    pub spool_directory: Option<String>,
}

impl Configuration {
    /// Packs the body: `u32` count; per file `u8` exists, `u8` execute, string name, string
    /// content (null when absent and when empty); then the spool directory.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Packer::new();
        body.u32(length(self.files.len()));
        for file in &self.files {
            body.u8(u8::from(file.content.is_some()))
                .u8(u8::from(file.execute));
            body.string(Some(file.name.as_bytes()));
            body.string(
                file.content
                    .as_deref()
                    .filter(|content| !content.is_empty()),
            );
        }
        body.string(self.spool_directory.as_ref().map(String::as_bytes));
        body.finish()
    }

    /// Reads the body; the layout is the same in all versions spoken here.
    ///
    /// # Errors
    /// [`WireError::TooLong`] above the limits of this module, and the errors of the fields.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Unpacker::new(body);
        let count = match bytes.u32("file count")? {
            NO_LIST => 0,
            count if count <= FILES_LIMIT => count,
            count => {
                return Err(WireError::TooLong {
                    field: "file count",
                    length: u64::from(count),
                    limit: u64::from(FILES_LIMIT),
                });
            }
        };
        let mut files = Vec::new();
        for _ in 0..count {
            let exists = bytes.u8("exists")? != 0;
            let execute = bytes.u8("execute")? != 0;
            let name = bytes.text(NAME_LIMIT, "file name")?;
            let content = bytes.string(CONTENT_LIMIT, "content")?;
            files.push(ConfigFile {
                name: name.ok_or(WireError::NotAString("file name"))?.to_owned(),
                content: exists.then(|| content.unwrap_or_default().to_vec()),
                execute,
            });
        }
        let spool_directory = bytes.text(4096, "spool directory")?.map(str::to_owned);
        bytes.end()?;
        Ok(Self {
            files,
            spool_directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: Option<&str>, execute: bool) -> ConfigFile {
        let content = content.map(|text| text.as_bytes().to_vec());
        ConfigFile {
            name: name.to_owned(),
            content,
            execute,
        }
    }

    #[test]
    fn requests() {
        for (wanted, version, golden) in [
            (
                Wanted::ClientAndRegister,
                ProtocolVersion::V24_11,
                &b"\0\0\0\x02"[..],
            ),
            (
                Wanted::ClientAndRegister,
                ProtocolVersion::V26_05,
                b"\0\0\0\x02\0\0",
            ),
            (Wanted::Client, ProtocolVersion::V24_11, b"\0\0\0\0"),
        ] {
            let request = ConfigRequest { wanted, port: 0 };
            assert_eq!(request.encode(version), golden);
            assert_eq!(ConfigRequest::decode(golden, version), Ok(request));
            for end in 0..golden.len() {
                assert!(ConfigRequest::decode(&golden[..end], version).is_err());
            }
        }
        assert!(ConfigRequest::decode(b"\0\0\0\x01", ProtocolVersion::V24_11).is_err());
    }

    #[test]
    fn files_round_trip_and_every_cut_is_refused() {
        let configuration = Configuration {
            files: vec![
                file("slurm.conf", Some("ClusterName=lab\n"), false),
                file("cli_filter.lua", None, false),
                file("empty.conf", Some(""), false),
                file("prolog", Some("#!/bin/sh\n"), true),
            ],
            spool_directory: None,
        };
        let body = configuration.encode();
        assert_eq!(Configuration::decode(&body), Ok(configuration));
        for end in 0..body.len() {
            assert!(Configuration::decode(&body[..end]).is_err(), "cut at {end}");
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(Configuration::decode(&longer), Err(WireError::Trailing(1)));
    }

    #[test]
    fn no_list_and_too_many() {
        let none = [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0];
        assert_eq!(Configuration::decode(&none), Ok(Configuration::default()));
        let many = [0, 0xff, 0xff, 0xff];
        assert!(matches!(
            Configuration::decode(&many),
            Err(WireError::TooLong { .. })
        ));
    }
}
