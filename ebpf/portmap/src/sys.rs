//! The few calls of bpf(2) on links. aya has no way to give a program to the link of a cgroup.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd};

/// What a link hangs on.
pub(crate) enum Hook<'a> {
    Cgroup(BorrowedFd<'a>, bpf_attach_type),
    /// The ingress of the interface of this index in the calling thread's namespace.
    Ingress(u32),
}

/// Attaches the program for as long as the link is open or pinned.
pub(crate) fn link_create(program: BorrowedFd<'_>, hook: Hook<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program);
    match hook {
        Hook::Cgroup(cgroup, attach_type) => {
            attr.link_create.__bindgen_anon_2.target_fd = number(cgroup);
            attr.link_create.attach_type = attach_type as u32;
        }
        Hook::Ingress(index) => {
            attr.link_create.__bindgen_anon_2.target_ifindex = index;
            attr.link_create.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
        }
    }
    open(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Puts the program in the place of the link's, in one step: no packet and no call meets neither. ENOLINK: what the
/// link was attached to is gone.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = number(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = number(program);
    call(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Takes the program off, at once. Letting go of the link would do it too, but later, and until then the same program
/// cannot be attached to the same place again.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = number(link);
    call(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Keeps a link for as long as the file at `path`, on a bpffs, is there.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = number(object);
    call(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    open(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of structs of integers, for which zeros are a value.
    unsafe { mem::zeroed() }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A file descriptor that is open is not negative.
    fd.as_raw_fd() as u32
}

fn open(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the kernel just opened it (with O_CLOEXEC, as bpf(2) always does) and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a whole bpf_attr, zero wherever the command has no field, and what it points to outlives the
    // call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
