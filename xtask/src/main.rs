//! The project's own checks. `cargo xtask check-arch` holds every crate's dependency list against the house rules.

mod arch;
mod sizes;

use std::process::ExitCode;

fn main() -> ExitCode {
    let findings = match std::env::args().nth(1).as_deref() {
        Some("check-arch") => arch::check(),
        Some("check-sizes") => sizes::check(),
        _ => {
            eprintln!("usage: cargo xtask check-arch | check-sizes");
            return ExitCode::from(2);
        }
    };
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
