//! causewayd, the network daemon.
//!
//! Composes libnetwork: store, kernel, port mapper, name server and drivers are made here and handed to the core, whose
//! handle the gRPC service asks. The network namespace that it is started in is "the host".
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod args;
mod boot;
mod firewall;
mod floods;
mod host_ports;
mod listen;
mod lookups;
mod mapper;
mod network_config;
mod notify;
mod purge;
mod reply;
mod request;
mod reserved;
mod run;
mod service;
mod sockets;

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use libnetwork_core::chain;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

/// sysexits.h: another start with the same configuration would end the same way.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome: Result<(), Box<dyn std::error::Error>> = match (&cli.command, cli.directories()) {
        (Some(Command::Purge(directories)), _) => purge::purge(directories).map_err(Into::into),
        (None, Some(directories)) => {
            log(&cli.log_level);
            run::run(&directories, cli.network_config.as_deref(), cli.publish).map_err(Into::into)
        }
        (None, None) => Cli::command()
            .error(ErrorKind::MissingRequiredArgument, "--state-dir and --run-dir are needed")
            .exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("causewayd: {}", chain(error.as_ref()));
            match error.downcast_ref() {
                Some(run::RunError::Config { .. } | run::RunError::Networks { .. }) => {
                    ExitCode::from(EX_CONFIG)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn log(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
