//! Docker's seccomp profiles, translated for one container.
//!
//! A profile in Docker's format says more than the OCI spec can: rules for some capabilities, architectures and
//! kernels only. The rules that apply are picked when the container is created.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::RuntimeError;

/// Docker's default: what may be called, by the capabilities that the container has.
const BUILTIN: &str = include_str!("seccomp.json");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What rules are picked by.
pub(super) struct Circumstances<'a> {
    /// With `CAP_`.
    pub(super) capabilities: &'a BTreeSet<String>,
    /// As Go names architectures, e.g. `amd64`.
    pub(super) architecture: &'a str,
    /// Version and patch level of the running kernel.
    pub(super) kernel: (u32, u32),
}

impl Circumstances<'_> {
    fn all_of(&self, filter: &Filter) -> bool {
        let arches = filter.arches.as_deref().unwrap_or_default();
        let caps = filter.caps.as_deref().unwrap_or_default();
        (arches.is_empty() || arches.iter().any(|arch| arch == self.architecture))
            && caps.iter().all(|cap| self.capabilities.contains(cap))
            && filter.min_kernel.as_deref().is_none_or(|wanted| self.kernel_is(wanted))
    }

    fn any_of(&self, filter: &Filter) -> bool {
        let arches = filter.arches.as_deref().unwrap_or_default();
        let caps = filter.caps.as_deref().unwrap_or_default();
        arches.iter().any(|arch| arch == self.architecture)
            || caps.iter().any(|cap| self.capabilities.contains(cap))
            || filter.min_kernel.as_deref().is_some_and(|wanted| self.kernel_is(wanted))
    }

    fn kernel_is(&self, at_least: &str) -> bool {
        self.kernel >= version(at_least)
    }
}

/// The two first numbers of a kernel's version.
pub(super) fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The OCI spec's `seccomp` object for a profile in Docker's format.
pub(super) fn translate(
    json: Option<&str>,
    circumstances: &Circumstances<'_>,
) -> Result<Value, RuntimeError> {
    let profile: Profile = serde_json::from_str(json.unwrap_or(BUILTIN))
        .map_err(|error| RuntimeError::InvalidSpec(format!("Decoding seccomp profile failed: {error}")))?;
    let native = native(circumstances.architecture);
    let architectures: Vec<String> = match (profile.architectures, profile.arch_map) {
        (Some(list), None) => list,
        (None, Some(map)) => map
            .into_iter()
            .filter(|entry| entry.architecture == native)
            .flat_map(|entry| {
                [entry.architecture].into_iter().chain(entry.sub_architectures.unwrap_or_default())
            })
            .collect(),
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => {
            return Err(RuntimeError::InvalidSpec(
                "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or \
                 'archMap'"
                    .to_owned(),
            ));
        }
    };
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.into_iter().flatten() {
        if rule.includes.as_ref().is_some_and(|filter| !circumstances.all_of(filter))
            || rule.excludes.as_ref().is_some_and(|filter| circumstances.any_of(filter))
        {
            continue;
        }
        let names = match (rule.name, rule.names) {
            (Some(name), None) => vec![name],
            (None, Some(names)) => names,
            _ => {
                return Err(RuntimeError::InvalidSpec(
                    "a seccomp rule needs either 'name' or 'names'".to_owned(),
                ));
            }
        };
        let mut translated = json!({ "names": names, "action": rule.action });
        if let Some(errno) = rule.errno_ret {
            translated["errnoRet"] = errno.into();
        }
        if let Some(args) = rule.args.filter(|args| !args.is_empty()) {
            translated["args"] = args.into();
        }
        syscalls.push(translated);
    }
    let mut out = json!({ "defaultAction": profile.default_action, "syscalls": syscalls });
    if !architectures.is_empty() {
        out["architectures"] = architectures.into();
    }
    if let Some(errno) = profile.default_errno_ret {
        out["defaultErrnoRet"] = errno.into();
    }
    if let Some(flags) = profile.flags.filter(|flags| !flags.is_empty()) {
        out["flags"] = flags.into();
    }
    Ok(out)
}

fn native(architecture: &str) -> &'static str {
    match architecture {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        "s390x" => "SCMP_ARCH_S390X",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "loong64" => "SCMP_ARCH_LOONGARCH64",
        _ => "",
    }
}

/// This machine's architecture, as Go names it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &Value) -> BTreeSet<String> {
        let rules = value["syscalls"].as_array().unwrap().iter();
        rules
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    fn with(capabilities: &[&str]) -> Value {
        let capabilities = capabilities.iter().map(|c| (*c).to_owned()).collect();
        let circumstances =
            Circumstances { capabilities: &capabilities, architecture: "amd64", kernel: version("6.1.0-13") };
        translate(None, &circumstances).unwrap()
    }

    #[test]
    fn what_needs_a_capability_is_allowed_with_it_only() {
        let (without, with_admin) = (names(&with(&[])), names(&with(&["CAP_SYS_ADMIN"])));
        assert!(!without.contains("mount") && with_admin.contains("mount"));
        assert!(without.contains("ptrace") && without.contains("arch_prctl"));
        assert!(!without.contains("cacheflush") && !without.contains("clone3"));
        assert!(!without.contains("io_uring_setup"));
        assert_eq!(with(&[])["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]));
        let profile: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(with(&[])).unwrap();
        assert_eq!(profile.default_errno_ret(), Some(1));
    }

    #[test]
    fn an_old_profile_with_single_names_is_understood() {
        let none = BTreeSet::new();
        let circumstances = Circumstances { capabilities: &none, architecture: "amd64", kernel: (6, 1) };
        let profile =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}"#;
        let out = translate(Some(profile), &circumstances).unwrap();
        assert_eq!(out["syscalls"][0], json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}));
        assert!(translate(Some("{"), &circumstances).is_err());
    }
}
