//! How a daemon takes another command line without being started again: it lies ready in a file, SIGHUP tells the daemon
//! of it, and `READY=1` tells us that it holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Of causeway-engine's command line, what only another start can change. Where it listens and keeps its things stays.
const FIXED: [&str; 3] = ["--tls-cert", "--tls-key", "--tls-ca"];

pub(crate) struct Reload {
    /// Where the daemon looks for its command line, a JSON list.
    file: PathBuf,
}

impl Reload {
    /// What an earlier process left there holds no more.
    pub(crate) fn of_engine(run_dir: &Path) -> Self {
        let file = run_dir.join("causeway-engine.arguments");
        let _there_is_none = fs::remove_file(&file);
        Self { file }
    }

    /// Whether the daemon can go from one command line to the other as it runs; the other one lies ready then.
    pub(crate) fn offer(&self, before: &[String], after: &[String]) -> bool {
        if fixed(before) != fixed(after) {
            return false;
        }
        let written = serde_json::to_vec(after).map_err(io::Error::other);
        match written.and_then(|text| fs::write(&self.file, text)) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("causeway: cannot write {}: {error}", self.file.display());
                false
            }
        }
    }
}

fn fixed(command: &[String]) -> Vec<(&String, &String)> {
    let pairs = command.iter().zip(command.iter().skip(1));
    pairs.filter(|(flag, _)| FIXED.contains(&flag.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_how_it_speaks_tls_needs_another_start() {
        let directory = tempfile::tempdir().unwrap();
        let reload = Reload::of_engine(directory.path());
        let line = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let before = line("engine -H unix:///a --tls-cert a --tls-key b --label x=1");
        let after = line("engine -H unix:///a --dns 1.1.1.1 --tls-cert a --tls-key b");
        assert!(reload.offer(&before, &after));
        let written = fs::read(directory.path().join("causeway-engine.arguments")).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<String>>(&written).unwrap(), after);
        assert!(!reload.offer(&before, &line("engine -H unix:///a --tls-cert c --tls-key b --label x=1")));
    }
}
