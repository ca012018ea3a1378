//! Setting attributes: by path, by handle, and of a link itself. All parts that are asked for are
//! tried, in OpenSSH's order, and the last failure is the answer.

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::unistd::{Gid, Uid, fchown, fchownat, ftruncate, truncate};

use crate::attributes::Attributes;
use crate::handles::{Handle, Open};
use crate::paths::Paths;
use crate::refusal::Refusal;

/// One call for each part.
struct Calls<'a> {
    size: &'a dyn Fn(i64) -> Result<(), Errno>,
    permissions: &'a dyn Fn(Mode) -> Result<(), Errno>,
    times: &'a dyn Fn(&TimeSpec, &TimeSpec) -> Result<(), Errno>,
    owner: &'a dyn Fn(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
}

impl Calls<'_> {
    fn set(&self, wanted: &Attributes) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        let mut note = |result: Result<(), Errno>| {
            if let Err(errno) = result {
                outcome = Err(errno.into());
            }
        };
        if let Some(size) = wanted.size {
            note(
                i64::try_from(size)
                    .map_err(|_| Errno::EINVAL)
                    .and_then(self.size),
            );
        }
        if let Some(permissions) = wanted.permissions {
            note((self.permissions)(Mode::from_bits_truncate(permissions)));
        }
        if let Some((accessed, changed)) = wanted.times {
            let time = |seconds| TimeSpec::seconds(i64::from(seconds));
            note((self.times)(&time(accessed), &time(changed)));
        }
        if let Some((user, group)) = wanted.owner {
            // All bits set is "as it is", here and in the kernel.
            note((self.owner)(
                Some(Uid::from_raw(user)),
                Some(Gid::from_raw(group)),
            ));
        }
        outcome
    }
}

/// `SSH_FXP_SETSTAT`; links are followed.
///
/// # Errors
/// Those of `truncate(2)`, `chmod(2)`, `utimensat(2)` and `chown(2)`.
pub fn by_path(paths: &Paths, path: &[u8], wanted: &Attributes) -> Result<(), Refusal> {
    if *wanted == Attributes::default() {
        return Ok(());
    }
    let place = paths.followed(path)?;
    let (folder, name) = (place.folder(), place.name());
    Calls {
        size: &|size| truncate(name, size),
        permissions: &|mode| fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink),
        times: &|a, m| utimensat(folder, name, a, m, UtimensatFlags::FollowSymlink),
        owner: &|user, group| fchownat(folder, name, user, group, AtFlags::empty()),
    }
    .set(wanted)
}

/// `lsetstat@openssh.com`; a link itself is changed.
///
/// # Errors
/// [`Refusal::LinkSize`]; those of `fchmodat(2)`, `utimensat(2)` and `fchownat(2)`.
pub fn of_link(paths: &Paths, path: &[u8], wanted: &Attributes) -> Result<(), Refusal> {
    if wanted.size.is_some() {
        return Err(Refusal::LinkSize);
    }
    if *wanted == Attributes::default() {
        return Ok(());
    }
    let Some(place) = paths.object(path)? else {
        return by_path(paths, path, wanted);
    };
    let (folder, name) = (place.folder(), place.name());
    Calls {
        size: &|_| Err(Errno::EINVAL),
        permissions: &|mode| fchmodat(folder, name, mode, FchmodatFlags::NoFollowSymlink),
        times: &|a, m| utimensat(folder, name, a, m, UtimensatFlags::NoFollowSymlink),
        owner: &|user, group| fchownat(folder, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW),
    }
    .set(wanted)
}

/// `SSH_FXP_FSETSTAT`.
///
/// # Errors
/// Those of `ftruncate(2)`, `fchmod(2)`, `futimens(3)` and `fchown(2)`.
pub fn by_handle(handle: &Handle, wanted: &Attributes) -> Result<(), Refusal> {
    let Open::File { file, .. } = &*handle.lock() else {
        return Err(Refusal::WrongHandle);
    };
    Calls {
        size: &|size| ftruncate(file, size),
        permissions: &|mode| fchmod(file, mode),
        times: &|a, m| futimens(file, a, m),
        owner: &|user, group| fchown(file, user, group),
    }
    .set(wanted)
}
