//! `causeway network`: what can be changed about a network while containers use it.

use std::{collections::HashMap, path::Path};

use libnetwork_rpc::{client, v1};

use crate::{Outcome, args::Network, ask::AskError, paths};

#[derive(Debug, thiserror::Error)]
enum SetError {
    #[error("{text:?} is not a setting: KEY=VALUE is")]
    Form { text: String },
    #[error("{key} is set twice")]
    Twice { key: String },
}

pub(crate) fn run(command: Network) -> Outcome {
    let Network::Set { run_dir, network, settings } = command;
    let settings = parse(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let changed = runtime.block_on(set(&run_dir, network, settings))?;
    println!("{}", changed.name);
    Ok(())
}

/// Setting the same again changes nothing, so an answer that got lost may be asked for again.
async fn set(
    run_dir: &Path,
    reference: String,
    settings: HashMap<String, String>,
) -> Result<v1::Network, AskError> {
    let socket = paths::network_socket(run_dir);
    let one = client::connect(&socket);
    let request = v1::SetNetworkRequest { reference, settings };
    client::again(|| async { one.clone().set_network(request.clone()).await })
        .await
        .map_err(AskError::at(&socket))
}

fn parse(texts: &[String]) -> Result<HashMap<String, String>, SetError> {
    let mut settings = HashMap::new();
    for text in texts {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| SetError::Form { text: text.clone() })?;
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(SetError::Twice { key: key.to_owned() });
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_up_to_the_first_equals_sign() {
        let texts = |texts: &[&str]| parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let settings = texts(&["mtu=1400", "label.a=b=c", "icc="]).unwrap();
        assert_eq!((settings["label.a"].as_str(), settings["icc"].as_str()), ("b=c", ""));
        assert!(texts(&["mtu"]).is_err() && texts(&["=1"]).is_err() && texts(&["a=1", "a=2"]).is_err());
    }
}
