//! `causeway`, the operator's command.
//!
//! `up` and `down` run without async and without threads: the supervisor forks, and must stay small. Only the commands
//! that ask causewayd something start a runtime.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod args;
mod ask;
mod dns;
mod dockerd;
mod down;
mod host;
mod manual;
mod network;
mod paths;
mod ports;
mod topology;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    if dockerd::is_called() {
        return told(dockerd::run(), "dockerd");
    }
    let result = match Args::parse().command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Topology(args) => topology::run(&args),
        Command::Network { command } => network::run(command),
        Command::Ports { command } => ports::run(&command),
        Command::Dns { command } => dns::run(command),
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { directory } => manual::pages(&directory),
    };
    told(result, "causeway")
}

fn told(result: Outcome, program: &str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each once: no Display here repeats its source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// What a command ends with when it fails.
type Outcome = Result<(), Box<dyn std::error::Error>>;
