//! causeway-engine, the Docker Engine API daemon.
//!
//! Composes the engine: images, volumes, the runtime, causewayd's client and the containers are made here and handed to
//! the API. The mount namespace and the network namespace that it is started in are "the host".
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod args;
mod boot;
mod listen;
mod memory;
mod notify;
mod purge;
mod reload;
mod run;
mod runtimes;

use std::{error::Error, io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

/// sysexits.h: another start with the same configuration would end the same way.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    memory::tune_allocator();
    let cli = Cli::parse();
    let outcome: Result<(), Box<dyn Error>> = match (&cli.command, cli.directories()) {
        (Some(Command::Purge(directories)), _) => purge::purge(directories).map_err(Into::into),
        (None, Some(directories)) => {
            let level = log(&cli.run.log_level);
            run::run(&cli.run, &directories, level).map_err(Into::into)
        }
        (None, None) => Cli::command()
            .error(ErrorKind::MissingRequiredArgument, "--state-dir and --run-dir are needed")
            .exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("causeway-engine: {}", chain(error.as_ref()));
            match error.downcast_ref() {
                // What cannot be read or written now may be with the next start.
                Some(run::RunError::Settings(reload::SettingsError::Io { .. })) => ExitCode::FAILURE,
                Some(run::RunError::Tls(_) | run::RunError::Settings(_)) => ExitCode::from(EX_CONFIG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// An error and all its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn log(level: &str) -> reload::Level {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    subscriber.init();
    Box::new(move |level| {
        if let Err(error) = handle.reload(filter(level)) {
            tracing::warn!(%error, "cannot change what is logged");
        }
    })
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}
