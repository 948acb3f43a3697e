//! What is mounted into a container: `-v`, `--mount`, `--volumes-from` and an image's `VOLUME`s, settled to one list.

use std::path::Path;

use crate::{
    Error, Result,
    config::{ContainerConfig, HostConfig, Mount, MountPoint},
    record::MountRecord,
};

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// The mounts of a container to be created. Volumes have no source yet, and anonymous ones no name. `others` tells the
/// mounts of another container, for `--volumes-from`.
pub(crate) fn settle(
    config: &ContainerConfig,
    host: &HostConfig,
    others: impl Fn(&str) -> Result<Vec<MountRecord>>,
) -> Result<Vec<MountRecord>> {
    let mut inherited: Vec<MountRecord> = Vec::new();
    for text in host.volumes_from.iter().flatten() {
        inherited.extend(from_container(text, &others)?);
    }
    let mut explicit: Vec<MountRecord> = Vec::new();
    let mut taken: Vec<String> = Vec::new();
    for path in host.tmpfs.iter().flatten().map(|(path, _)| path) {
        if !path.starts_with('/') {
            return Err(Error::Invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
        }
        taken.push(clean(path));
    }
    for text in host.binds.iter().flatten() {
        let mount = from_bind(text)?;
        take(&mut taken, &mount)?;
        explicit.push(mount);
    }
    for mount in host.mounts.iter().flatten() {
        let mount = from_mount(mount)?;
        take(&mut taken, &mount)?;
        explicit.push(mount);
    }
    // What is asked for by path wins over what comes along with another container.
    inherited.retain(|mount| !taken.contains(&mount.point.destination));
    taken.extend(inherited.iter().map(|mount| mount.point.destination.clone()));
    let mut all = inherited;
    all.extend(explicit);
    for path in config.volumes.iter().flatten().map(|(path, _)| path) {
        let destination = clean(path);
        if !path.starts_with('/') || destination == "/" {
            return Err(Error::Invalid(format!(
                "invalid volume specification: '{path}': invalid mount config for type \"volume\": invalid mount path: \
                 '{path}' mount path must be absolute"
            )));
        }
        if !taken.contains(&destination) {
            taken.push(destination.clone());
            all.push(volume("", destination, "", true));
        }
    }
    all.sort_by(|a, b| a.point.destination.cmp(&b.point.destination));
    Ok(all)
}

fn take(taken: &mut Vec<String>, mount: &MountRecord) -> Result<()> {
    if taken.contains(&mount.point.destination) {
        return Err(Error::Invalid(format!("Duplicate mount point: {}", mount.point.destination)));
    }
    taken.push(mount.point.destination.clone());
    Ok(())
}

fn volume(name: &str, destination: String, mode: &str, rw: bool) -> MountRecord {
    MountRecord {
        point: MountPoint {
            r#type: "volume".into(),
            name: name.into(),
            destination,
            driver: "local".into(),
            mode: mode.into(),
            rw,
            ..MountPoint::default()
        },
        anonymous: name.is_empty(),
        ..MountRecord::default()
    }
}

/// `container[:ro|rw]`.
fn from_container(text: &str, others: impl Fn(&str) -> Result<Vec<MountRecord>>) -> Result<Vec<MountRecord>> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    if !matches!(mode, "" | "ro" | "rw" | "z" | "Z") {
        return Err(Error::Invalid(format!("invalid mode for volumes-from: {mode}")));
    }
    let mut mounts = others(name)?;
    for mount in &mut mounts {
        mount.anonymous = false;
        if mode == "ro" {
            mount.point.rw = false;
        }
    }
    Ok(mounts)
}

/// `-v [source:]destination[:mode]`.
fn from_bind(text: &str) -> Result<MountRecord> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(Error::Invalid(format!("invalid volume specification: '{text}'"))),
    };
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let refuse = |why: String| {
        Error::Invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {why}"
        ))
    };
    if destination.is_empty() || (parts.len() > 1 && source.is_empty()) {
        return Err(Error::Invalid(format!("invalid volume specification: '{text}'")));
    }
    if !destination.starts_with('/') {
        return Err(refuse(format!("invalid mount path: '{destination}' mount path must be absolute")));
    }
    let destination = clean(destination);
    if destination == "/" {
        return Err(refuse("invalid specification: destination can't be '/'".into()));
    }
    let mode = Mode::parse(mode, kind)?;
    if kind == "volume" {
        let name = source;
        let mut mount = volume(name, destination, mode.text, !mode.readonly);
        if !name.is_empty() && mode.text.is_empty() {
            // What Docker shows for a named volume without a mode.
            mount.point.mode = "z".into();
        }
        mount.no_copy = mode.no_copy;
        return Ok(mount);
    }
    Ok(MountRecord {
        point: MountPoint {
            r#type: "bind".into(),
            source: clean(source),
            destination,
            mode: mode.text.into(),
            rw: !mode.readonly,
            propagation: mode.propagation.unwrap_or("rprivate").into(),
            ..MountPoint::default()
        },
        make_source: true,
        ..MountRecord::default()
    })
}

struct Mode<'a> {
    text: &'a str,
    readonly: bool,
    no_copy: bool,
    propagation: Option<&'a str>,
}

impl<'a> Mode<'a> {
    fn parse(text: &'a str, kind: &str) -> Result<Self> {
        let mut mode = Self { text, readonly: false, no_copy: false, propagation: None };
        for word in text.split(',').filter(|_| !text.is_empty()) {
            match word {
                "ro" | "readonly" => mode.readonly = true,
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "default" => {}
                "nocopy" if kind == "volume" => mode.no_copy = true,
                word if kind == "bind" && PROPAGATIONS.contains(&word) && mode.propagation.is_none() => {
                    mode.propagation = Some(word);
                }
                _ => return Err(Error::Invalid(format!("invalid mode: {text}"))),
            }
        }
        Ok(mode)
    }
}

/// `--mount`.
fn from_mount(mount: &Mount) -> Result<MountRecord> {
    let kind = mount.r#type.as_str();
    let refuse = |why: String| Error::Invalid(format!("invalid mount config for type \"{kind}\": {why}"));
    if !matches!(kind, "bind" | "volume" | "tmpfs") {
        return Err(refuse("mount type unknown".into()));
    }
    if mount.target.is_empty() {
        return Err(refuse("field Target must not be empty".into()));
    }
    if !mount.target.starts_with('/') {
        return Err(refuse(format!("invalid mount path: '{}' mount path must be absolute", mount.target)));
    }
    let destination = clean(&mount.target);
    if destination == "/" {
        return Err(refuse("invalid specification: destination can't be '/'".into()));
    }
    let unexpected = |field: &str| refuse(format!("field {field} must not be specified"));
    let spec = Some(mount.clone());
    match kind {
        "bind" => {
            if mount.source.is_empty() {
                return Err(refuse("field Source must not be empty".into()));
            }
            if !mount.source.starts_with('/') {
                return Err(refuse(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            if mount.volume_options.is_some() {
                return Err(unexpected("VolumeOptions"));
            }
            if mount.tmpfs_options.is_some() {
                return Err(unexpected("TmpfsOptions"));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                return Err(refuse(format!("invalid propagation mode: {}", options.propagation)));
            }
            if !options.create_mountpoint && !Path::new(&mount.source).exists() {
                return Err(refuse(format!("bind source path does not exist: {}", mount.source)));
            }
            let propagation =
                if options.propagation.is_empty() { "rprivate".to_owned() } else { options.propagation };
            Ok(MountRecord {
                point: MountPoint {
                    r#type: "bind".into(),
                    source: clean(&mount.source),
                    destination,
                    rw: !mount.read_only,
                    propagation,
                    ..MountPoint::default()
                },
                spec,
                make_source: options.create_mountpoint,
                ..MountRecord::default()
            })
        }
        "volume" => {
            if mount.bind_options.is_some() {
                return Err(unexpected("BindOptions"));
            }
            if mount.tmpfs_options.is_some() {
                return Err(unexpected("TmpfsOptions"));
            }
            if mount.source.starts_with('/') {
                return Err(refuse(format!(
                    "invalid mount path: '{}' mount path must not be absolute for a volume",
                    mount.source
                )));
            }
            let mode = if mount.source.is_empty() { "" } else { "z" };
            let mut record = volume(&mount.source, destination, mode, !mount.read_only);
            record.no_copy = mount.volume_options.as_ref().is_some_and(|o| o.no_copy);
            record.spec = spec;
            Ok(record)
        }
        _ => {
            if !mount.source.is_empty() {
                return Err(unexpected("Source"));
            }
            if mount.bind_options.is_some() {
                return Err(unexpected("BindOptions"));
            }
            if mount.volume_options.is_some() {
                return Err(unexpected("VolumeOptions"));
            }
            Ok(MountRecord {
                point: MountPoint {
                    r#type: "tmpfs".into(),
                    destination,
                    rw: !mount.read_only,
                    ..MountPoint::default()
                },
                spec,
                ..MountRecord::default()
            })
        }
    }
}

/// A path without `.`, `..`, doubled or trailing slashes; by its text alone.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Set;

    fn none(_: &str) -> Result<Vec<MountRecord>> {
        Ok(Vec::new())
    }

    fn binds(binds: &[&str]) -> Result<Vec<MountRecord>> {
        let binds = Some(binds.iter().map(|b| (*b).to_owned()).collect());
        settle(&ContainerConfig::default(), &HostConfig { binds, ..HostConfig::default() }, none)
    }

    #[test]
    fn binds_and_volumes_are_told_apart() {
        let mounts = binds(&["/tmp:/host:ro", "named:/named", "/anon", "data:/d:nocopy,ro"]).unwrap();
        let by = |path: &str| mounts.iter().find(|m| m.point.destination == path).unwrap();
        assert_eq!(by("/host").point.r#type, "bind");
        assert!(!by("/host").point.rw);
        assert_eq!(by("/named").point.mode, "z");
        assert!(by("/anon").anonymous);
        assert!(by("/d").no_copy && !by("/d").point.rw);
    }

    #[test]
    fn bad_binds_are_refused_with_dockers_words() {
        assert_eq!(binds(&["/x:/b:zz"]).unwrap_err().to_string(), "invalid mode: zz");
        assert_eq!(
            binds(&["a:b"]).unwrap_err().to_string(),
            "invalid volume specification: 'a:b': invalid mount config for type \"volume\": invalid mount path: 'b' \
             mount path must be absolute"
        );
        assert!(binds(&["/a:/", ":/a", "a:b:c:d"]).is_err());
        assert_eq!(binds(&["/tmp:/b", "/var:/b/"]).unwrap_err().to_string(), "Duplicate mount point: /b");
    }

    #[test]
    fn an_images_volume_gives_way_to_what_is_asked_for() {
        let volumes: Set =
            [("/data".to_owned(), Default::default()), ("/more/".to_owned(), Default::default())].into();
        let config = ContainerConfig { volumes: Some(volumes), ..ContainerConfig::default() };
        let host = HostConfig { binds: Some(vec!["/tmp:/data".into()]), ..HostConfig::default() };
        let mounts = settle(&config, &host, none).unwrap();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point.r#type, "bind");
        assert_eq!(mounts[1].point.destination, "/more");
    }

    #[test]
    fn another_containers_volumes_come_along() {
        let others =
            |_: &str| Ok(vec![volume("v", "/v".into(), "z", true), volume("w", "/w".into(), "z", true)]);
        let host = HostConfig {
            volumes_from: Some(vec!["other:ro".into()]),
            binds: Some(vec!["x:/w".into()]),
            ..HostConfig::default()
        };
        let mounts = settle(&ContainerConfig::default(), &host, others).unwrap();
        assert_eq!(mounts.len(), 2);
        assert!(!mounts[0].point.rw);
        assert_eq!(mounts[1].point.name, "x");
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(clean("/../.."), "/");
    }
}
