//! Shell completions and man pages, made from the command line's own definition.

use std::{fs, io, path::Path};

use clap::CommandFactory;

use crate::{Outcome, args::Args, paths::PathError};

pub(crate) fn completion(shell: clap_complete::Shell) -> Outcome {
    clap_complete::generate(shell, &mut Args::command(), "causeway", &mut io::stdout());
    Ok(())
}

pub(crate) fn pages(directory: &Path) -> Outcome {
    fs::create_dir_all(directory).map_err(PathError::at("create the directory", directory))?;
    clap_mangen::generate_to(Args::command(), directory)
        .map_err(PathError::at("write man pages to", directory))?;
    Ok(())
}
