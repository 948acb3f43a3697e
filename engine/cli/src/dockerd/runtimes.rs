//! OCI runtimes of the configuration.

use serde_json::Value;

use super::file::Given;

/// Docker's names for runc.
const RESERVED: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// One runtime, as causeway-engine takes it.
#[derive(Debug, PartialEq)]
pub(super) struct Runtime {
    name: String,
    path: String,
    arguments: Vec<String>,
}

/// Docker's rules and words.
pub(super) fn judge(name: &str, runtime: &Value) -> Result<(), String> {
    if RESERVED.contains(&name) {
        return Err(format!("runtime name '{name}' is reserved"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!("runtime name {name:?} is not made of letters, digits, _, - and ."));
    }
    let text = |key: &str| runtime.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("path"), text("runtimeType")) {
        ("", "") => Err(format!("runtime {name}: either a runtimeType or a path must be configured")),
        (_, "") | ("", _) => Ok(()),
        _ => Err(format!("runtime {name}: cannot configure both path and runtimeType for the same runtime")),
    }
}

/// Those that are programs of the OCI's command line, and a line about each that is not.
pub(super) fn all(given: &Given) -> (Vec<Runtime>, Vec<String>) {
    let (mut known, mut lines) = (Vec::new(), Vec::new());
    for (name, path) in given.get("add-runtime").and_then(Value::as_object).into_iter().flatten() {
        let path = path.as_str().unwrap_or_default().to_owned();
        known.push(Runtime { name: name.clone(), path, arguments: Vec::new() });
    }
    for (name, runtime) in given.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
        let binary = runtime["options"]["BinaryName"].as_str();
        match runtime["path"].as_str().or(binary).filter(|path| !path.is_empty()) {
            Some(path) => {
                let words = runtime["runtimeArgs"].as_array().into_iter().flatten();
                let arguments = words.filter_map(Value::as_str).map(str::to_owned).collect();
                known.push(Runtime { name: name.clone(), path: path.to_owned(), arguments });
            }
            None => lines.push(format!(
                "the runtime {name} has no effect: it is a shim of containerd, and causeway runs without that"
            )),
        }
    }
    (known, lines)
}

impl Runtime {
    /// Of causeway-engine's command line.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        let added = ["--add-runtime".to_owned(), format!("{}={}", self.name, self.path)];
        let argument = |argument: &String| format!("--runtime-arg={}={argument}", self.name);
        added.into_iter().chain(self.arguments.iter().map(argument))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_run_with_their_arguments_and_shims_of_containerd_are_not() {
        let runtimes = serde_json::json!({
            "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--debug", "--x=y"]},
            "nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []},
            "named": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/opt/runc"}},
            "kata": {"runtimeType": "io.containerd.kata.v2"},
        });
        let (known, lines) = all(&Given::from([("runtimes", runtimes)]));
        let words: Vec<String> = known.iter().flat_map(Runtime::arguments).collect();
        assert_eq!(
            words,
            [
                "--add-runtime",
                "named=/opt/runc",
                "--add-runtime",
                "nvidia=nvidia-container-runtime",
                "--add-runtime",
                "runsc=/usr/bin/runsc",
                "--runtime-arg=runsc=--debug",
                "--runtime-arg=runsc=--x=y",
            ]
        );
        assert!(lines.len() == 1 && lines[0].contains("kata"), "{lines:?}");
    }
}
