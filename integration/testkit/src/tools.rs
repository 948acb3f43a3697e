use std::{env, path::PathBuf};

/// A binary of ours, from the target directory that this test was built into.
pub fn binary(name: &str) -> PathBuf {
    let own = env::current_exe().expect("a test knows its own path");
    // target/debug/deps/test-… and target/debug/examples/… are both one below.
    let path = own.ancestors().skip(1).take(3).map(|dir| dir.join(name)).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("no {name} beside {}: run `cargo build --workspace` first", own.display()))
}

/// The docker CLI; any from 20.10 on.
pub fn docker_cli() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|dir| dir.join("docker"))
        .find(|path| path.is_file())
        .expect("no docker CLI on the PATH: `make deps` installs one")
}
