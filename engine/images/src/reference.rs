//! Names of images: the grammar of `distribution/reference`, with Docker's defaults and short forms.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::error::{Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// The longest `domain/path`, from the reference grammar.
const MAX_NAME: usize = 255;

/// A normalised reference, shown in full: `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a user may call an image by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnyReference {
    /// A full id, with or without `sha256:`.
    Id(Digest),
    Named(Reference),
}

impl AnyReference {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if is_full_hex(text)
            && let Ok(id) = format!("sha256:{text}").parse()
        {
            return Ok(Self::Id(id));
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        Reference::parse(text).map(Self::Named)
    }
}

impl Reference {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if is_full_hex(text) {
            return Err(Error::InvalidReference(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| invalid(""))?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (domain, mut path) = split_domain(name);
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(invalid(&format!(": repository name ({path}) must be lowercase")));
        }
        if domain == DEFAULT_DOMAIN && !path.contains('/') {
            path.insert_str(0, "library/");
        }
        if !is_domain(&domain) || !path.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
            return Err(invalid(""));
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(Error::InvalidReference(format!(
                "repository name must not be more than {MAX_NAME} characters"
            )));
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }

    /// With `:latest` where it has neither tag nor digest.
    pub(crate) fn or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag.
    pub(crate) fn with_tag(mut self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(invalid(""));
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// The form under which the catalog keeps it: a digest makes the tag redundant.
    pub(crate) fn key(&self) -> Self {
        let tag = if self.digest.is_some() { None } else { self.tag.clone() };
        Self { tag, ..self.clone() }
    }

    pub(crate) fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    pub(crate) fn is_digested(&self) -> bool {
        self.digest.is_some()
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `docker.io/library/nginx`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// `nginx`.
    pub(crate) fn familiar_name(&self) -> String {
        match (self.domain.as_str(), self.path.strip_prefix("library/")) {
            (DEFAULT_DOMAIN, Some(short)) if !short.contains('/') => short.to_owned(),
            (DEFAULT_DOMAIN, _) => self.path.clone(),
            _ => self.name(),
        }
    }

    /// `nginx:latest`, `nginx@sha256:…`.
    pub(crate) fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        // Docker's rule: a first part without a dot or port is a user name, unless it can only be a host.
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    (domain.to_owned(), path.to_owned())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    host_ok && port.is_none_or(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_digit()))
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(word) || !component.ends_with(word) {
        return false;
    }
    component
        .split(word)
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.chars().all(|c| c == '-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_full_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn invalid(detail: &str) -> Error {
    Error::InvalidReference(format!("invalid reference format{detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stand_for_docker_hub() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.2", "docker.io/library/nginx:1.2"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("reg:5000/a/b:c", "reg:5000/a/b:c"),
            ("index.docker.io/library/x", "docker.io/library/x:latest"),
        ] {
            assert_eq!(Reference::parse(short).unwrap().or_latest().to_string(), full);
        }
        assert_eq!(Reference::parse("docker.io/library/nginx:1").unwrap().familiar(), "nginx:1");
        assert_eq!(Reference::parse("docker.io/me/x").unwrap().familiar(), "me/x");
        assert_eq!(Reference::parse("a.b/library/x").unwrap().familiar(), "a.b/library/x");
    }

    #[test]
    fn bad_names_are_refused_with_dockers_words() {
        for bad in ["", ":", "a:", "-a", "a//b", "a:b:c d", "a..b", "a___b", "x@sha256:12", "a/", "/a"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Reference::parse("Foo").unwrap_err().to_string(),
            "invalid reference format: repository name (Foo) must be lowercase"
        );
        assert_eq!(Reference::parse("a b").unwrap_err().to_string(), "invalid reference format");
        assert!(Reference::parse("a--b/c__d.e_f:_x").is_ok());
    }
}
