//! Compiling seccomp profiles once, and loading what was compiled.
//!
//! To compile Docker's default profile takes several milliseconds of CPU, which is more than all the rest of a
//! container's creation, and nearly all containers have the same: so the program is kept in the engine's run
//! directory. libcontainer would compile each time.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    str::FromStr,
};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, error::SeccompError,
};
use nix::{errno::Errno, libc};
use serde::{Deserialize, Serialize};

/// What a kernel's instruction takes, in bytes.
const INSTRUCTION: usize = 8;

/// The OCI spec's `linux.seccomp`.
#[derive(Debug, Clone, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Clone, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    value_two: Option<u64>,
    op: String,
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("seccomp {0} is not known here")]
    Unknown(String),
    #[error("SCMP_ACT_NOTIFY needs a runtime that can hand on its descriptor (--runtime runc)")]
    Notify,
    #[error("compile the seccomp profile: {0}")]
    Compile(#[from] SeccompError),
}

/// A compiled profile, ready to be loaded.
pub(crate) struct Program {
    instructions: Vec<u8>,
    flags: libc::c_ulong,
}

impl Program {
    /// Takes it from `cache`, a directory, or compiles it and puts it there. A cache that cannot be used only costs
    /// time.
    pub(crate) fn prepare(profile: &Profile, cache: Option<&Path>) -> Result<Self, Trouble> {
        let flags = flags(&profile.flags)?;
        let Some((path, text)) =
            cache.and_then(|cache| Some((key(cache, profile), serde_json::to_vec(profile).ok()?)))
        else {
            return Ok(Self { instructions: compile(profile)?, flags });
        };
        if let Some(instructions) = fs::read(&path).ok().and_then(|bytes| unpack(&bytes, &text)) {
            return Ok(Self { instructions, flags });
        }
        let instructions = compile(profile)?;
        let _ = store(&path, &text, &instructions);
        Ok(Self { instructions, flags })
    }

    /// Confines this process, for ever.
    pub(crate) fn load(&self) -> Result<(), Errno> {
        let program = libc::sock_fprog {
            len: (self.instructions.len() / INSTRUCTION) as u16,
            filter: self.instructions.as_ptr() as *mut libc::sock_filter,
        };
        // SAFETY: the kernel reads `len` instructions, which outlive the call; it copies them from any alignment.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &program) };
        Errno::result(result).map(drop)
    }
}

fn key(cache: &Path, profile: &Profile) -> std::path::PathBuf {
    let mut hasher = DefaultHasher::new();
    profile.hash(&mut hasher);
    cache.join(format!("{:016x}.bpf", hasher.finish()))
}

/// A file holds the profile's length and text, and then the program: two profiles with one hash are told apart.
fn unpack(bytes: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let program = rest.get(..u32::from_be_bytes(*length) as usize).filter(|stored| *stored == text)?;
    let program = rest.get(program.len()..)?;
    (!program.is_empty() && program.len() % INSTRUCTION == 0).then(|| program.to_vec())
}

fn store(path: &Path, text: &[u8], instructions: &[u8]) -> io::Result<()> {
    use io::Write;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&(text.len() as u32).to_be_bytes())?;
    file.write_all(text)?;
    file.write_all(instructions)?;
    fs::rename(&temporary, path)
}

fn flags(names: &[String]) -> Result<libc::c_ulong, Trouble> {
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                _ => return Err(Trouble::Unknown(format!("flag {name}"))),
            })
    })
}

fn compile(profile: &Profile) -> Result<Vec<u8>, Trouble> {
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut context = ScmpFilterContext::new(default)?;
    context.set_ctl_nnp(false)?;
    // A tree rather than a list of comparisons, which every system call would have to go through. Old libraries
    // have the list only.
    let _ = context.set_ctl_optimize(2);
    for name in &profile.architectures {
        context.add_arch(ScmpArch::from_str(name)?)?;
    }
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        if action == default {
            continue;
        }
        let comparisons = rule.args.iter().map(comparison).collect::<Result<Vec<_>, _>>()?;
        let repeated =
            rule.args.iter().enumerate().any(|(i, a)| rule.args[..i].iter().any(|b| a.index == b.index));
        for name in &rule.names {
            // A call that this library does not know cannot be allowed, and is not missed.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            if comparisons.is_empty() {
                context.add_rule(action, call)?;
            } else if repeated {
                // The library takes one comparison for each argument; runc makes a rule of each then.
                for comparison in &comparisons {
                    context.add_rule_conditional(action, call, std::slice::from_ref(comparison))?;
                }
            } else {
                context.add_rule_conditional(action, call, &comparisons)?;
            }
        }
    }
    export(&context)
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, Trouble> {
    use io::{Read, Seek};
    let unwritten = |_: io::Error| Trouble::Unknown("program: it cannot be kept in memory".to_owned());
    let memory = nix::sys::memfd::memfd_create(c"seccomp", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(|error| unwritten(error.into()))?;
    let mut memory = fs::File::from(memory);
    context.export_bpf(&memory)?;
    let mut instructions = Vec::new();
    memory.rewind().and_then(|()| memory.read_to_end(&mut instructions)).map_err(unwritten)?;
    Ok(instructions)
}

fn action(name: &str, errno: Option<u32>) -> Result<ScmpAction, Trouble> {
    let errno = errno.map_or(libc::EPERM, |errno| errno as i32);
    match name {
        "SCMP_ACT_NOTIFY" => Err(Trouble::Notify),
        "SCMP_ACT_KILL" => Ok(ScmpAction::KillThread),
        name => {
            ScmpAction::from_str(name, Some(errno)).map_err(|_| Trouble::Unknown(format!("action {name}")))
        }
    }
}

fn comparison(argument: &Argument) -> Result<ScmpArgCompare, Trouble> {
    let (operation, expected) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, argument.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, argument.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, argument.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, argument.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, argument.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, argument.value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(argument.value), argument.value_two.unwrap_or(0)),
        other => return Err(Trouble::Unknown(format!("comparison {other}"))),
    };
    Ok(ScmpArgCompare::new(argument.index, operation, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_compiled_once() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile: Profile = serde_json::from_str(text).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let first = Program::prepare(&profile, Some(cache.path())).unwrap();
        assert!(first.instructions.len() > 4 * INSTRUCTION);
        let path = key(cache.path(), &profile);
        // What is there is taken as it is: a mark shows it.
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&[0; INSTRUCTION]);
        fs::write(&path, &bytes).unwrap();
        let second = Program::prepare(&profile, Some(cache.path())).unwrap();
        assert_eq!(second.instructions.len(), first.instructions.len() + INSTRUCTION);
        // And another profile of the same name is not.
        let other: Profile = serde_json::from_str(&text.replace("read", "write")).unwrap();
        fs::rename(&path, key(cache.path(), &other)).unwrap();
        assert_eq!(
            Program::prepare(&other, Some(cache.path())).unwrap().instructions.len(),
            first.instructions.len()
        );
        let notify: Profile = serde_json::from_str(&text.replace("ACT_ALLOW", "ACT_NOTIFY")).unwrap();
        assert!(matches!(Program::prepare(&notify, None), Err(Trouble::Notify)));
    }
}
