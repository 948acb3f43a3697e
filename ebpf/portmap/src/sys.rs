//! The few calls of bpf(2) that aya has no way to make: to give a program to the link of a cgroup, to read a map of a
//! layout that is known at run time alone.

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{
    BPF_F_BEFORE, BPF_F_LINK, BPF_NOEXIST, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type,
};

/// What a link hangs on.
pub(crate) enum Hook<'a> {
    Cgroup(BorrowedFd<'a>, bpf_attach_type),
    /// The ingress of the interface of this index in the calling thread's namespace, or its egress.
    Ingress(u32),
    Egress(u32),
    /// Netfilter's input hook of the calling thread's namespace, for one family (NFPROTO_*).
    Input {
        family: u32,
        priority: i32,
    },
}

/// linux/netfilter.h
const NF_INET_LOCAL_IN: u32 = 1;

/// Loads a program of netfilter. What the verifier has against it is in the error.
pub(crate) fn load_netfilter(name: &str, instructions: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    let kind = (bpf_prog_type::BPF_PROG_TYPE_NETFILTER, bpf_attach_type::BPF_NETFILTER);
    load_program(name, kind, instructions, license)
}

/// Loads a program of that type, for that place.
pub(crate) fn load_program(
    name: &str,
    (program_type, attach_type): (bpf_prog_type, bpf_attach_type),
    instructions: &[bpf_insn],
    license: &CStr,
) -> io::Result<OwnedFd> {
    let load = |log: &mut [u8]| {
        let mut attr = zeroed();
        // SAFETY: this member of the union is made of integers; all of them are zero so far.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = program_type as u32;
        load.expected_attach_type = attach_type as u32;
        load.insn_cnt = instructions.len() as u32;
        load.insns = instructions.as_ptr() as u64;
        load.license = license.as_ptr() as u64;
        // The last byte stays 0.
        for (to, from) in load.prog_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        if !log.is_empty() {
            (load.log_level, load.log_size, load.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
        }
        unless_interrupted(|| open(bpf_cmd::BPF_PROG_LOAD, &mut attr), is_interruption)
    };
    load(&mut []).map_err(|error| {
        let mut log = vec![0; 1 << 16];
        if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) || load(&mut log).is_ok() {
            return error;
        }
        let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("; ");
        io::Error::new(error.kind(), format!("{error}: {last}"))
    })
}

/// The verifier leaves its work with EAGAIN when a signal comes, whatever that does, or the process is stopped or frozen: then
/// it begins anew, more often than by libbpf (5), for who freezes processes may do so again and again.
pub(crate) fn unless_interrupted<T, E>(
    mut load: impl FnMut() -> Result<T, E>,
    is_interruption: impl Fn(&E) -> bool,
) -> Result<T, E> {
    const ATTEMPTS: u32 = 50;
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if is_interruption(&error) => {}
            other => return other,
        }
    }
    load()
}

pub(crate) fn is_interruption(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

/// Attaches the program for as long as the link is open or pinned, behind those that are there.
pub(crate) fn link_create(program: BorrowedFd<'_>, hook: Hook<'_>) -> io::Result<OwnedFd> {
    create_link(program, hook, zeroed())
}

/// The same at an interface, in front of the program that the link `before` has there.
pub(crate) fn link_create_before(
    program: BorrowedFd<'_>,
    hook: Hook<'_>,
    before: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.flags = BPF_F_BEFORE | BPF_F_LINK;
    attr.link_create.__bindgen_anon_3.tcx.__bindgen_anon_1.relative_fd = number(before);
    create_link(program, hook, attr)
}

fn create_link(program: BorrowedFd<'_>, hook: Hook<'_>, mut attr: bpf_attr) -> io::Result<OwnedFd> {
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
        Hook::Egress(index) => {
            attr.link_create.__bindgen_anon_2.target_ifindex = index;
            attr.link_create.attach_type = bpf_attach_type::BPF_TCX_EGRESS as u32;
        }
        Hook::Input { family, priority } => {
            attr.link_create.attach_type = bpf_attach_type::BPF_NETFILTER as u32;
            attr.link_create.__bindgen_anon_3.netfilter.pf = family;
            attr.link_create.__bindgen_anon_3.netfilter.hooknum = NF_INET_LOCAL_IN;
            attr.link_create.__bindgen_anon_3.netfilter.priority = priority;
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

/// Runs a program once, on a frame.
pub(crate) fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<()> {
    let mut attr = zeroed();
    attr.test.prog_fd = number(program);
    (attr.test.data_in, attr.test.data_size_in) = (frame.as_ptr() as u64, frame.len() as u32);
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// Keeps a link or a map for as long as the file at `path`, on a bpffs, is there.
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

/// The key after this one, in an order of the kernel's own; the first after none. False: there is none. A key that is gone
/// is followed by the first.
pub(crate) fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let mut attr = element(map, key);
    attr.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
    or_absent(call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr))
}

/// False: there is no such key. Of a map for each CPU, `value` has room for all of them, each rounded up to 8 bytes.
pub(crate) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = element(map, Some(key));
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    or_absent(call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))
}

/// Leaves what is there under the key: false then.
pub(crate) fn map_add(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<bool> {
    let mut attr = element(map, Some(key));
    // SAFETY: this member of the union is made of integers.
    let entry = unsafe { &mut attr.__bindgen_anon_2 };
    (entry.__bindgen_anon_1.value, entry.flags) = (value.as_ptr() as u64, BPF_NOEXIST.into());
    match call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        other => other.map(|_| true),
    }
}

fn element(map: BorrowedFd<'_>, key: Option<&[u8]>) -> bpf_attr {
    let mut attr = zeroed();
    // SAFETY: this member of the union is made of integers; all of them are zero so far.
    let entry = unsafe { &mut attr.__bindgen_anon_2 };
    (entry.map_fd, entry.key) = (number(map), key.map_or(0, |key| key.as_ptr() as u64));
    attr
}

fn or_absent(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        other => other.map(|_| true),
    }
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
