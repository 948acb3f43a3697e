//! Taking from a process what its container must not have: the last step before its program.

use std::path::Path;

use libcontainer::{capabilities, syscall::syscall::SyscallType};
use oci_spec::runtime::LinuxCapabilities;

use crate::seccomp::{Profile, Program};

/// What to take.
pub(crate) struct Confinement {
    seccomp: Option<Program>,
    capabilities: Option<LinuxCapabilities>,
}

impl Confinement {
    /// Does what takes long, as long as all is still at hand.
    pub(crate) fn prepare(
        profile: Option<&Profile>,
        capabilities: Option<LinuxCapabilities>,
        cache: Option<&Path>,
    ) -> Result<Self, String> {
        let seccomp = profile.map(|profile| Program::prepare(profile, cache)).transpose();
        Ok(Self { seccomp: seccomp.map_err(|error| error.to_string())?, capabilities })
    }

    /// Confines this process, which must have all capabilities permitted.
    pub(crate) fn apply(&self) -> Result<(), String> {
        let syscall = SyscallType::Linux.create_syscall();
        let syscall = syscall.as_ref();
        capabilities::reset_effective(syscall).map_err(|error| format!("reset capabilities: {error}"))?;
        // Without no_new_privs this needs a capability, so it comes before those go.
        if let Some(program) = &self.seccomp {
            program.load().map_err(|error| format!("load the seccomp filter: {}", error.desc()))?;
        }
        if let Some(wanted) = &self.capabilities {
            capabilities::drop_privileges(wanted, syscall)
                .map_err(|error| format!("drop capabilities: {error}"))?;
        }
        Ok(())
    }
}
