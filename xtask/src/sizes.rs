//! No source file outgrows one idea: 800 lines is the most, 400 the aim.

use std::{fs, path::PathBuf};

const MOST: usize = 800;

pub(crate) fn check() -> Vec<String> {
    sources()
        .into_iter()
        .filter(|(_, lines)| *lines > MOST)
        .map(|(path, lines)| format!("{}: {lines} lines; split it, {MOST} is the most", path.display()))
        .collect()
}

/// Every Rust source of the workspace with its number of lines.
pub(crate) fn sources() -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["libnetwork", "drivers", "ebpf", "dns", "engine", "integration", "xtask"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let lines = fs::read_to_string(&path).unwrap_or_default().lines().count();
                found.push((path, lines));
            }
        }
    }
    found
}
