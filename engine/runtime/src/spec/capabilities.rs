//! `--cap-add`, `--cap-drop` and `--privileged`.

use std::collections::BTreeSet;

use crate::RuntimeError;

/// What a container may do by default: Docker's fourteen.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All that this kernel knows and we may hand on.
pub(super) fn all() -> BTreeSet<String> {
    let held = caps::read(None, caps::CapSet::Bounding).unwrap_or_default();
    held.into_iter().map(|capability| capability.to_string()).collect()
}

/// The capabilities of a container.
pub(super) fn resolve(
    privileged: bool,
    add: &[String],
    drop: &[String],
) -> Result<BTreeSet<String>, RuntimeError> {
    if privileged {
        return Ok(all());
    }
    let (add, drop) = (names(add)?, names(drop)?);
    let default = || DEFAULT.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut base = match (add.contains("ALL"), drop.contains("ALL")) {
        // Both at once: nothing is dropped by ALL that was added by ALL, as in Docker.
        (true, _) => all(),
        (false, true) => BTreeSet::new(),
        (false, false) => default(),
    };
    if !drop.contains("ALL") {
        base.retain(|name| !drop.contains(name));
    }
    base.extend(add.into_iter().filter(|name| name != "ALL"));
    Ok(base)
}

/// Upper case and with the prefix.
fn names(list: &[String]) -> Result<BTreeSet<String>, RuntimeError> {
    let known: BTreeSet<String> = caps::all().into_iter().map(|capability| capability.to_string()).collect();
    list.iter()
        .map(|given| {
            let upper = given.to_ascii_uppercase();
            if upper == "ALL" {
                return Ok(upper);
            }
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if !known.contains(&name) {
                return Err(RuntimeError::InvalidSpec(format!("invalid capability: {given:?}")));
            }
            Ok(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_are_taken_as_people_write_them() {
        let found = resolve(false, &strings(&["net_admin"]), &strings(&["CAP_CHOWN", "kill"])).unwrap();
        assert!(
            found.contains("CAP_NET_ADMIN") && !found.contains("CAP_CHOWN") && !found.contains("CAP_KILL")
        );
        assert_eq!(found.len(), 13);
        assert_eq!(resolve(false, &strings(&["SYS_TIME"]), &strings(&["all"])).unwrap().len(), 1);
        assert!(resolve(false, &strings(&["ALL"]), &strings(&["MKNOD"])).unwrap().len() > 13);
        assert_eq!(
            resolve(false, &strings(&["NONSENSE"]), &[]).unwrap_err().to_string(),
            "invalid capability: \"NONSENSE\""
        );
    }
}
