//! Which devices a container may use, where cgroup v2 is alone.
//!
//! v2 has no files for this: a small BPF program, attached to the group, is asked. libcontainer would need libbpf and
//! libelf to make one. It lives as long as the group does.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::{errno::Errno, libc};
use serde::Deserialize;

// From linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// A rule of the OCI spec's `linux.resources.devices`. A later one overrides those before.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rule {
    allow: bool,
    /// `a`, `b` or `c`; none means `a`.
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    access: Option<String>,
}

/// What every container may do, by the rules of the OCI runtimes: make any node, and use its terminals.
fn always() -> [Rule; 4] {
    let rule = |kind: &str, numbers: Option<(i64, Option<i64>)>, access: &str| Rule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: numbers.map(|(major, _)| major),
        minor: numbers.and_then(|(_, minor)| minor),
        access: Some(access.to_owned()),
    };
    [
        rule("c", None, "m"),
        rule("b", None, "m"),
        rule("c", Some((136, None)), "rwm"),
        rule("c", Some((5, Some(2))), "rwm"),
    ]
}

/// Makes the group's directory, and has the kernel ask by these rules for whoever is in it.
pub(crate) fn restrict(group: &Path, rules: &[Rule]) -> io::Result<()> {
    fs::create_dir_all(group)?;
    let directory = fs::File::open(group)?;
    let all: Vec<Rule> = rules.iter().cloned().chain(always()).collect();
    let program = load(&program(&all))?;
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
    }
    let attach = Attach {
        target_fd: directory.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the kernel reads the structure, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &attach, size_of::<Attach>()) };
    Errno::result(result)?;
    Ok(())
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
    }
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the kernel reads the structure and what it points to, which outlive the call, and returns a descriptor.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &load, size_of::<Load>()) })?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One instruction, as the kernel has it in memory on a little-endian machine and, by fields, on any.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let registers =
        if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    let mut bytes = [0; 8];
    bytes[0] = code;
    bytes[1] = registers;
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&immediate.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// The program: the rules from the last to the first, the first that matches decides; none refuses.
fn program(rules: &[Rule]) -> Vec<u64> {
    // Opcodes, by linux/bpf_common.h: a 32 bit load, and 32 and 64 bit arithmetic and jumps.
    const LOAD: u8 = 0x61;
    const MOVE: u8 = 0xb4;
    const MOVE_REGISTER: u8 = 0xbc;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const JUMP_EQUAL: u8 = 0x15;
    const JUMP_UNEQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    // r2: kind, r3: access, r4: major, r5: minor.
    let mut out = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        // What leads to the next rule, whose place is known when all of this one are counted.
        let mut checks: Vec<(u8, u8, i32, usize)> = Vec::new();
        let mut body: Vec<u64> = Vec::new();
        let mut check = |body: &mut Vec<u64>, code, register, value| {
            checks.push((code, register, value, body.len()));
            body.push(0);
        };
        match rule.kind.as_deref() {
            Some("b") => check(&mut body, JUMP_UNEQUAL, 2, BLOCK),
            Some("c" | "u") => check(&mut body, JUMP_UNEQUAL, 2, CHARACTER),
            _ => {}
        }
        let access = access(rule.access.as_deref().unwrap_or("rwm"));
        if access != READ | WRITE | MKNOD {
            body.push(instruction(MOVE_REGISTER, 0, 3, 0, 0));
            if rule.allow {
                // All that is wanted must be allowed.
                body.push(instruction(AND, 0, 0, 0, !access & (READ | WRITE | MKNOD)));
                check(&mut body, JUMP_UNEQUAL, 0, 0);
            } else {
                // Any that is refused is enough.
                body.push(instruction(AND, 0, 0, 0, access));
                check(&mut body, JUMP_EQUAL, 0, 0);
            }
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number.filter(|&number| number >= 0) {
                check(&mut body, JUMP_UNEQUAL, register, number as i32);
            }
        }
        body.push(instruction(MOVE, 0, 0, 0, i32::from(rule.allow)));
        body.push(instruction(EXIT, 0, 0, 0, 0));
        let always = checks.is_empty();
        for (code, register, value, at) in checks {
            body[at] = instruction(code, register, 0, (body.len() - at - 1) as i16, value);
        }
        out.append(&mut body);
        if always {
            // The kernel refuses a program with instructions that are never reached.
            return out;
        }
    }
    out.push(instruction(MOVE, 0, 0, 0, 0));
    out.push(instruction(EXIT, 0, 0, 0, 0));
    out
}

fn access(text: &str) -> i32 {
    text.chars().fold(0, |bits, letter| {
        bits | match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use engine_protocol::cgroup::Hierarchies;

    use super::*;

    #[test]
    fn only_what_a_rule_allows_can_be_opened() {
        let name = format!("causeway-test-devices-{}", std::process::id());
        let hierarchies = Hierarchies::detect().unwrap();
        let group = hierarchies.group(&name);
        let Some(directory) = group.unified() else { return };
        let rules = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
            {"allow":true,"type":"c","major":1,"minor":5,"access":"r"}]"#;
        let restricted = restrict(&directory, &serde_json::from_str::<Vec<Rule>>(rules).unwrap());
        let nodes = tempfile::tempdir().unwrap();
        let script = format!(
            "echo $$ > {}/cgroup.procs; cd {}; cat /dev/null && echo null; head -c 1 /dev/zero | wc -c; \
             head -c 1 /dev/urandom 2>/dev/null | wc -c; (echo > /dev/zero) 2>/dev/null || echo readonly; \
             mknod m c 1 1 && echo made; head -c 1 m 2>/dev/null | wc -c; test -c /dev/ptmx && : < /dev/ptmx && echo pty",
            directory.display(),
            nodes.path().display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        group.remove(std::time::Instant::now() + std::time::Duration::from_secs(120)).unwrap();
        restricted.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out, "null\n1\n0\nreadonly\nmade\n0\npty\n", "{err}");
    }
}
