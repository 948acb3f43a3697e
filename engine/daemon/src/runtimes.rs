//! OCI runtimes that containers may name.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use engine_containers::DEFAULT_RUNTIME;

/// Those that `--runtime` may name when they are installed.
const KNOWN: [&str; 4] = ["runc", "crun", "youki", "runsc"];

/// The runtimes that are installed, and those that were named.
pub(crate) fn all(named: &[(String, PathBuf)]) -> BTreeMap<String, PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed =
        |name: &str| env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    let mut runtimes: BTreeMap<String, PathBuf> =
        KNOWN.iter().filter_map(|name| Some(((*name).to_owned(), installed(name)?))).collect();
    runtimes.extend(named.iter().cloned());
    runtimes
}

/// Those that are to be run with arguments of their own are run by a script below `directory` that adds them, as by Docker.
/// They have no slash in their names.
pub(crate) fn with_arguments(
    mut runtimes: BTreeMap<String, PathBuf>,
    arguments: &[(String, String)],
    directory: &Path,
) -> io::Result<BTreeMap<String, PathBuf>> {
    for (name, path) in &mut runtimes {
        let words: Vec<&str> =
            arguments.iter().filter(|(of, _)| of == name).map(|(_, word)| word.as_str()).collect();
        if words.is_empty() {
            continue;
        }
        let program = path.display().to_string();
        let line: Vec<String> = [program.as_str()].iter().chain(&words).map(|word| quoted(word)).collect();
        fs::create_dir_all(directory)?;
        *path = directory.join(name);
        let new = directory.join(format!(".{name}.new"));
        fs::write(&new, format!("#!/bin/sh\nexec {} \"$@\"\n", line.join(" ")))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700))?;
        // In one step: a container may be starting by it.
        fs::rename(&new, path)?;
    }
    Ok(runtimes)
}

/// As one word of a shell's, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// As `docker info` lists them, with the one that is inside the shim.
pub(crate) fn shown(runtimes: &BTreeMap<String, PathBuf>) -> BTreeMap<String, String> {
    let mut shown: BTreeMap<String, String> =
        runtimes.iter().map(|(name, path)| (name.clone(), path.display().to_string())).collect();
    shown.insert(DEFAULT_RUNTIME.to_owned(), "causeway-shim".to_owned());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_run_with_its_arguments_before_those_of_each_call() {
        let directory = tempfile::tempdir().unwrap();
        let runtimes = BTreeMap::from([("say".to_owned(), PathBuf::from("/bin/echo"))]);
        let arguments = [("say".to_owned(), "it's; $HOME".to_owned()), ("other".to_owned(), "x".to_owned())];
        let runtimes = with_arguments(runtimes, &arguments, directory.path()).unwrap();
        let said = std::process::Command::new(&runtimes["say"]).args(["create", "a b"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "it's; $HOME create a b\n");
    }
}
