//! Whether the object that is built in belongs to the sources beside it. Rebuilding it is `ebpf/check-object`.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

#[test]
fn the_committed_object_was_built_from_these_sources() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../check-object");
    let output = Command::new(script).arg("--sources").output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
