//! The real name of a path, in OpenSSH's manner: the last component need not exist, and `..` behind
//! a file is no error.

use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use crate::paths::Paths;

/// Links that are followed before it is called a loop, as in OpenSSH.
const MAX_LINKS: usize = 33;
/// `PATH_MAX`, with the zero at the end.
const MAX_PATH: usize = 4096;

/// Removes links, `.` and `..` from a path; the result is absolute.
///
/// # Errors
/// `ENOENT` if any but the last component is missing, `ELOOP`, `ENAMETOOLONG`, those of `lstat(2)`.
pub fn resolve(paths: &Paths, path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.len() >= MAX_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut done = if path[0] == b'/' {
        Vec::new()
    } else {
        paths.start().to_vec()
    };
    if done == b"/" {
        done.clear();
    }
    // What is still to be looked at, the next component last.
    let mut left: Vec<Vec<u8>> = split(path);
    let mut links = 0;
    while let Some(component) = left.pop() {
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                let parent = done.iter().rposition(|b| *b == b'/').unwrap_or(0);
                done.truncate(parent);
                continue;
            }
            _ => {}
        }
        let parent = done.len();
        done.push(b'/');
        done.extend_from_slice(&component);
        if done.len() >= MAX_PATH {
            return Err(Errno::ENAMETOOLONG);
        }
        let stat = match paths.lstat(&done) {
            Err(Errno::ENOENT) if left.is_empty() => return Ok(done),
            other => other?,
        };
        if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            let target = paths.readlink(&done)?.into_vec();
            done.truncate(if target.starts_with(b"/") { 0 } else { parent });
            let rest: usize = left.iter().map(|c| c.len() + 1).sum();
            if target.len() + rest >= MAX_PATH {
                return Err(Errno::ENAMETOOLONG);
            }
            left.extend(split(&target));
        }
    }
    if done.is_empty() {
        done.push(b'/');
    }
    Ok(done)
}

/// Components, the first one last; a slash at the end is an empty component.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let mut components: Vec<_> = path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
    components.reverse();
    components
}
