//! What the host's settings were before we changed them, so that a purge can give them back.
//!
//! Settings outlive us in the kernel, and the kernel does not say who made them: this is the one thing that a file has to
//! remember. It is written before the setting is, so a crash in between costs nothing: what does not have the value that
//! we set is left alone.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use libnetwork_plan::Cause;

use crate::{sysctl, thread::cause};

const FORWARD_IPV4: &str = "net/ipv4/ip_forward";
const FORWARD_IPV6: &str = "net/ipv6/conf/all/forwarding";

/// One line of the file: `NAME BEFORE SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// Below /proc/sys.
    name: String,
    before: String,
    /// What it has by our doing.
    set: String,
}

/// The file that remembers.
#[derive(Debug)]
pub(crate) struct Before {
    path: PathBuf,
}

impl Before {
    pub(crate) fn new(path: PathBuf) -> Self {
        Before { path }
    }

    /// To be called before a setting of the host, which the calling thread is in, is written: takes note of it and of what
    /// the kernel changes with it. What was noted first stays.
    pub(crate) fn note(&self, name: &str, value: &str) -> Result<(), Cause> {
        let mut known = self.read()?;
        let count = known.len();
        for (name, set) in changed_by(name, value)? {
            if !known.iter().any(|setting| setting.name == name)
                && let Some(before) = sysctl::read(&name)?
            {
                known.push(Setting { name, before: before.to_string(), set });
            }
        }
        if known.len() == count { Ok(()) } else { self.write(&known).map_err(cause) }
    }

    /// Gives back, to the namespace of the calling thread, what still has the value that we set; then forgets.
    pub(crate) fn restore(&self) -> Result<(), Cause> {
        let mut targets = Vec::new();
        for Setting { name, before, set } in self.read()? {
            // What went with its link needs nothing.
            let Some(now) = sysctl::read(&name)? else { continue };
            targets.push(if *now == *set { (name, before) } else { (name, now.to_string()) });
        }
        // These change others: they come first, and what they changed is put right after.
        targets.sort_by_key(|(name, _)| name != FORWARD_IPV4 && name != FORWARD_IPV6);
        for (name, value) in targets {
            if sysctl::read(&name)?.is_some_and(|now| *now != *value) {
                sysctl::write(&name, &value)?;
            }
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cause(error)),
            _ => Ok(()),
        }
    }

    /// By family, IPv4 first: whether the host, which the calling thread is in, forwards for nobody but us.
    pub(crate) fn closed(&self) -> Result<[bool; 2], Cause> {
        let known = self.read()?;
        let mut closed = [false; 2];
        for (closed, name) in closed.iter_mut().zip([FORWARD_IPV4, FORWARD_IPV6]) {
            *closed = match known.iter().find(|setting| setting.name == name) {
                Some(setting) => setting.before == "0",
                None => sysctl::read(name)?.is_some_and(|value| *value == *"0"),
            };
        }
        Ok(closed)
    }

    fn read(&self) -> Result<Vec<Setting>, Cause> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cause(error)),
        };
        let mut lines = text.lines();
        // Of an earlier boot, or of another namespace: those settings are gone.
        if lines.next() != Some(&era().map_err(cause)?) {
            return Ok(Vec::new());
        }
        Ok(lines.filter_map(setting).collect())
    }

    /// Whole or not at all.
    fn write(&self, settings: &[Setting]) -> io::Result<()> {
        let mut text = era()? + "\n";
        for Setting { name, before, set } in settings {
            text += &format!("{name} {before} {set}\n");
        }
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }
}

fn setting(line: &str) -> Option<Setting> {
    let mut words = line.split(' ').map(str::to_owned);
    Some(Setting { name: words.next()?, before: words.next()?, set: words.next()? })
}

/// This boot and this network namespace.
fn era() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{} {}", boot.trim_end(), fs::metadata("/proc/thread-self/ns/net")?.ino()))
}

/// What writing a setting changes: itself, and what the kernel and `sysctl::write` do with it. See inet_forward_change
/// (net/ipv4/devinet.c) and addrconf_fixup_forwarding (net/ipv6/addrconf.c).
fn changed_by(name: &str, value: &str) -> Result<Vec<(String, String)>, Cause> {
    let mut changed = vec![(name.to_owned(), value.to_owned())];
    let family = match name {
        FORWARD_IPV4 => {
            let redirects = if value == "0" { "1" } else { "0" };
            changed.push(("net/ipv4/conf/all/accept_redirects".into(), redirects.into()));
            "net/ipv4/conf"
        }
        FORWARD_IPV6 => "net/ipv6/conf",
        _ => return Ok(changed),
    };
    for entry in fs::read_dir(Path::new("/proc/sys").join(family)).map_err(cause)? {
        // No link's name that is not UTF-8 has a setting that can be named in a line.
        let Ok(link) = entry.map_err(cause)?.file_name().into_string() else { continue };
        if link != "all" {
            changed.push((format!("{family}/{link}/forwarding"), value.to_owned()));
        }
    }
    if name == FORWARD_IPV6 && value == "1" {
        let raised = sysctl::believing_routers()?;
        changed.extend(raised.into_iter().map(|name| (name, sysctl::BELIEVE_ALWAYS.to_owned())));
    }
    Ok(changed)
}
