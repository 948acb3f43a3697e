//! Settings below /proc/sys/net. They are those of the namespace of the thread that reads or writes.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Component, Path, PathBuf},
};

use libnetwork_plan::{Cause, Name, Ns};

use crate::{
    netlink::{Message, attributes},
    spaces::Spaces,
    thread::{cause, open},
};

const IPV4_FORWARDING: &str = "net/ipv4/ip_forward";
const ALL_IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// Runs `work` where the settings are those of `ns`.
pub(crate) fn at<T: Send + 'static>(
    spaces: &Spaces,
    ns: &Ns,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Cause> {
    match ns {
        // The thread that talks to the kernel never leaves the host.
        Ns::Host => Ok(work()),
        Ns::Sandbox(id) => spaces.visitor.inside(open(&spaces.path(id))?, work),
    }
}

/// None when there is no such setting.
pub(crate) fn read(name: &str) -> Result<Option<Name>, Cause> {
    let mut value = String::new();
    match open_setting(name, OpenOptions::new().read(true))
        .and_then(|mut file| file.read_to_string(&mut value))
    {
        Ok(_) => Ok(Some(value.trim_end().into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cause(error)),
    }
}

pub(crate) fn write(name: &str, value: &str) -> Result<(), Cause> {
    if name == ALL_IPV6_FORWARDING && value == "1" {
        keep_autoconfiguration()?;
    }
    let file = open_setting(name, OpenOptions::new().write(true));
    file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(cause)
}

/// [`write()`], and what the setting reads as where that is another text: `01` reads as `1`, and times are rounded to the
/// kernel's ticks.
pub(crate) fn write_and_read(name: &str, value: &str) -> Result<Option<Name>, Cause> {
    write(name, value)?;
    // Some cannot be read.
    Ok(read(name).ok().flatten().filter(|reading| **reading != *value))
}

/// The accept_ra of a host that forwards and believes its router all the same.
pub(crate) const BELIEVE_ALWAYS: &str = "2";

/// A host that forwards stops believing its own router (accept_ra 1) and loses its default route some minutes later,
/// unless told to believe all the same (2). See Documentation/networking/ip-sysctl.rst.
fn keep_autoconfiguration() -> Result<(), Cause> {
    for name in believing_routers()? {
        // A link may go while we look.
        let _gone = write(&name, BELIEVE_ALWAYS);
    }
    Ok(())
}

/// The settings of the links that believe their router for as long as the host does not forward.
pub(crate) fn believing_routers() -> Result<Vec<String>, Cause> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf").map_err(cause)? {
        let Ok(link) = entry.map_err(cause)?.file_name().into_string() else { continue };
        let name = format!("net/ipv6/conf/{link}/accept_ra");
        if !matches!(&*link, "all" | "default") && read(&name)?.is_some_and(|value| *value == *"1") {
            found.push(name);
        }
    }
    Ok(found)
}

/// linux/rtnetlink.h. The only settings that the kernel tells of when they change.
pub(crate) const RTM_NEWNETCONF: u16 = 80;
/// linux/netconf.h: which link, -1 for all of them; and whether it forwards.
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// struct netconfmsg, filled up to four bytes.
const NETCONF_HEADER: usize = 4;

/// The setting by which a namespace was made to forward a family no more, from [`RTM_NEWNETCONF`].
pub(crate) fn forwarding_ended(message: &Message<'_>) -> Option<&'static str> {
    let (mut link, mut forwards) = (None, None);
    for attribute in attributes(message.payload.get(NETCONF_HEADER..)?) {
        let value = attribute.value().try_into().ok().map(i32::from_ne_bytes);
        match attribute.kind() {
            NETCONFA_IFINDEX => link = value,
            NETCONFA_FORWARDING => forwards = value,
            _ => {}
        }
    }
    let name = match i32::from(*message.payload.first()?) {
        libc::AF_INET => IPV4_FORWARDING,
        libc::AF_INET6 => ALL_IPV6_FORWARDING,
        _ => return None,
    };
    (link == Some(-1) && forwards == Some(0)).then_some(name)
}

/// Looked up through a procfs of ours, which is given up after so many settings.
///
/// In one procfs, the directories of all namespaces below /proc/sys/net have one place in the kernel's table of names
/// (proc_sys_compare, fs/proc/proc_sysctl.c), and every name that was ever looked up stays there: with thousands of sandboxes
/// each lookup would go through thousands.
const LOOKUPS: u32 = 1024;

thread_local! {
    static PROCFS: RefCell<Option<(OwnedFd, u32)>> = const { RefCell::new(None) };
}

/// Names never lead out of /proc/sys/net.
fn open_setting(name: &str, options: &mut OpenOptions) -> io::Result<File> {
    let name = Path::new(name);
    if !name.starts_with("net") || !name.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    options.custom_flags(libc::O_CLOEXEC);
    PROCFS.with_borrow_mut(|procfs| {
        if procfs.as_ref().is_none_or(|(_, lookups)| *lookups >= LOOKUPS) {
            // Where none is to be had (before Linux 5.2), the machine's own serves as well.
            *procfs = mount_procfs().ok().map(|root| (root, 0));
        }
        let root = match procfs {
            Some((root, lookups)) => {
                *lookups += 1;
                PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()))
            }
            None => PathBuf::from("/proc"),
        };
        options.open(root.join("sys").join(name))
    })
}

/// A procfs that is nowhere in the tree, and goes with its descriptor (fsopen(2), fsmount(2)).
fn mount_procfs() -> io::Result<OwnedFd> {
    let owned = |result: libc::c_long| match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel made this descriptor just now, for nobody else.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    };
    const CREATE: libc::c_uint = 6;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a text that ends with a zero, and numbers.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    let fd = context.as_raw_fd();
    // SAFETY: FSCONFIG_CMD_CREATE takes neither key nor value.
    let made = unsafe { libc::syscall(libc::SYS_fsconfig, fd, CREATE, none, none, 0) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: numbers alone.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, attributes) })
}
