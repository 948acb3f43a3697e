//! What an entry of an archive says of itself.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::sys::stat::{Mode, makedev};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid};

use super::broken;
use crate::error::{Error, Result};
use crate::layer::whiteout;

/// What an entry says about the thing itself, besides its content.
pub(super) struct Attributes {
    pub(super) mode: Mode,
    pub(super) owner: (Uid, Gid),
    pub(super) modified: TimeSpec,
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// A name in an archive as a relative path without `.` and `..`. The root itself is the empty path.
pub(super) fn normalised(raw: &[u8]) -> Result<PathBuf> {
    let shown = || String::from_utf8_lossy(raw).into_owned();
    if raw.contains(&0) {
        return Err(Error::Archive(format!("{:?}: a name with a zero byte", shown())));
    }
    let absolute = raw.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in raw.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() && !absolute {
                    return Err(Error::Archive(format!("{:?} is outside of the root", shown())));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(PathBuf::from(OsString::from_vec(parts.join(&b'/'))))
}

pub(super) fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Attributes> {
    let header = entry.header();
    // Go takes an empty field for 0, and some archives have them.
    let old = header.as_old();
    let blank = |field: &[u8]| field.iter().all(|&b| b == 0 || b == b' ');
    let number =
        |field: &[u8], value: io::Result<u64>| if blank(field) { Ok(0) } else { value.map_err(broken) };
    let mode = number(&old.mode, header.mode().map(u64::from))? as u32;
    let id =
        |id: u64| u32::try_from(id).map_err(|_| Error::Archive(format!("owner {id} does not fit 32 bits")));
    let mut attributes = Attributes {
        mode: Mode::from_bits_truncate(mode & 0o7777),
        owner: (
            Uid::from_raw(id(number(&old.uid, header.uid())?)?),
            Gid::from_raw(id(number(&old.gid, header.gid())?)?),
        ),
        modified: TimeSpec::new(i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
        xattrs: Vec::new(),
    };
    let Some(extensions) = entry.pax_extensions().map_err(broken)? else {
        return Ok(attributes);
    };
    for extension in extensions {
        let extension = extension.map_err(broken)?;
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if !name.starts_with(whiteout::OVERLAY_XATTRS.as_bytes()) {
                attributes.xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec()));
            }
            continue;
        }
        let Ok(text) = std::str::from_utf8(value) else { continue };
        match key {
            b"mtime" => attributes.modified = pax_time(text).unwrap_or(attributes.modified),
            b"uid" => {
                if let Ok(uid) = text.parse() {
                    attributes.owner.0 = Uid::from_raw(uid);
                }
            }
            b"gid" => {
                if let Ok(gid) = text.parse() {
                    attributes.owner.1 = Gid::from_raw(gid);
                }
            }
            _ => {}
        }
    }
    Ok(attributes)
}

/// Seconds with an optional fraction, possibly negative.
fn pax_time(text: &str) -> Option<TimeSpec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (text.starts_with('-'), nanos) {
        (true, 1..) => TimeSpec::new(seconds - 1, 1_000_000_000 - nanos),
        _ => TimeSpec::new(seconds, nanos),
    })
}

pub(super) fn device(header: &tar::Header) -> Result<u64> {
    let major = header.device_major().map_err(broken)?.unwrap_or(0);
    let minor = header.device_minor().map_err(broken)?.unwrap_or(0);
    Ok(makedev(major.into(), minor.into()))
}
