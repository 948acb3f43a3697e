//! `--change` of `docker import` and `docker commit`: single Dockerfile instructions applied to a config.

use std::path::{Component, Path, PathBuf};

use crate::config::{Empty, ImageConfig};
use crate::error::{Error, Result};

/// Applies the instructions in order.
pub(crate) fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<()> {
    changes.iter().flat_map(|change| change.lines()).try_for_each(|line| apply_one(config, line.trim()))
}

fn apply_one(config: &mut ImageConfig, line: &str) -> Result<()> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (instruction, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let instruction = instruction.to_ascii_uppercase();
    let arguments = arguments.trim();
    let required = || {
        if arguments.is_empty() {
            Err(Error::InvalidOption(format!("{instruction} requires at least one argument")))
        } else {
            Ok(())
        }
    };
    match instruction.as_str() {
        // An empty CMD or ENTRYPOINT (`[]`) is how an inherited one is taken away.
        "CMD" => config.cmd = Some(command(config, arguments)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, arguments)),
        "ENV" => {
            required()?;
            for (key, value) in pairs("ENV", arguments)? {
                let assignment = format!("{key}={value}");
                match config.env.iter_mut().find(|entry| entry.split('=').next() == Some(key.as_str())) {
                    Some(entry) => *entry = assignment,
                    None => config.env.push(assignment),
                }
            }
        }
        "LABEL" => {
            required()?;
            config.labels.get_or_insert_default().extend(pairs("LABEL", arguments)?);
        }
        "EXPOSE" => {
            required()?;
            for word in words(arguments) {
                for port in ports(&word)? {
                    config.exposed_ports.insert(port, Empty {});
                }
            }
        }
        "VOLUME" => {
            required()?;
            let paths = json_words(arguments).unwrap_or_else(|| words(arguments));
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(Error::InvalidOption("VOLUME specified can not be an empty string".to_owned()));
            }
            config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => {
            required()?;
            config.user = arguments.to_owned();
        }
        "WORKDIR" => {
            required()?;
            config.working_dir = joined(&config.working_dir, &words(arguments).join(" "));
        }
        "STOPSIGNAL" => {
            required()?;
            config.stop_signal = arguments.to_owned();
        }
        "ONBUILD" => {
            required()?;
            config.on_build.push(arguments.to_owned());
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(arguments)?),
        _ => {
            return Err(Error::InvalidOption(format!(
                "{} is not a valid change command",
                instruction.to_ascii_lowercase()
            )));
        }
    }
    Ok(())
}

/// The exec form is a JSON array of strings; anything else is a shell's command line.
fn command(config: &ImageConfig, arguments: &str) -> Vec<String> {
    if let Some(words) = json_words(arguments) {
        return words;
    }
    if arguments.is_empty() {
        return Vec::new();
    }
    let mut words =
        if config.shell.is_empty() { vec!["/bin/sh".into(), "-c".into()] } else { config.shell.clone() };
    words.push(arguments.to_owned());
    words
}

fn healthcheck(arguments: &str) -> Result<crate::config::Healthcheck> {
    let (kind, rest) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    let rest = rest.trim();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !rest.is_empty() => match json_words(rest) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        },
        _ => {
            return Err(Error::InvalidOption(format!(
                "HEALTHCHECK {arguments}: only NONE and CMD without flags can be given here"
            )));
        }
    };
    Ok(crate::config::Healthcheck { test, ..Default::default() })
}

fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// `KEY=value KEY2="v w"`, or the old `KEY the rest`.
fn pairs(instruction: &str, arguments: &str) -> Result<Vec<(String, String)>> {
    let parts = words(arguments);
    let first = arguments.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        return match arguments.split_once(char::is_whitespace) {
            Some((key, value)) => Ok(vec![(key.to_owned(), value.trim().to_owned())]),
            None => Err(Error::InvalidOption(format!("{instruction} must have two arguments"))),
        };
    }
    parts
        .into_iter()
        .map(|part| match part.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            Some(_) => Err(Error::InvalidOption(format!("{instruction} names can not be blank"))),
            None => Err(Error::InvalidOption(format!(
                "Syntax error - can't find = in {part:?}. Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// Splits at whitespace outside quotes; quotes and escapes are taken off.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, Some(open)) if c == open => quote = None,
            (_, None) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `80`, `53/udp`, `8000-8002/tcp`.
fn ports(word: &str) -> Result<Vec<String>> {
    let invalid = || Error::InvalidOption(format!("invalid containerPort: {word}"));
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::InvalidOption(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn joined(base: &str, path: &str) -> String {
    let mut out = PathBuf::from("/");
    for component in Path::new(base).join(path).components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig> {
        let mut config = ImageConfig::default();
        let changes: Vec<String> = changes.iter().map(|&c| c.to_owned()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn every_instruction_changes_its_field() {
        let config = changed(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint exec me",
            "ENV A=1 B=\"x y\"",
            "ENV A the rest",
            "LABEL com.x='q r' y=z",
            "EXPOSE 80 53/udp 9000-9001",
            "VOLUME [\"/data\"]",
            "USER 1:2",
            "WORKDIR /a",
            "WORKDIR b/../c",
            "STOPSIGNAL SIGINT",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec me"]);
        assert_eq!(config.env, ["A=the rest", "B=x y"]);
        assert_eq!(config.labels.unwrap()["com.x"], "q r");
        assert_eq!(
            config.exposed_ports.into_keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp", "9000/tcp", "9001/tcp"]
        );
        assert!(config.volumes.contains_key("/data"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1:2", "/a/c"));
        assert_eq!(config.stop_signal, "SIGINT");
    }

    #[test]
    fn an_instruction_that_builds_is_refused() {
        assert_eq!(changed(&["RUN x"]).unwrap_err().to_string(), "run is not a valid change command");
        assert!(changed(&["EXPOSE 80-70"]).is_err());
        assert!(changed(&["ENV"]).is_err());
        assert!(changed(&["ENV A=1 B"]).is_err());
    }
}
