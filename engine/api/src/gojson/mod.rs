//! Request bodies read the way Go's encoding/json reads them, since clients rely on it: `null` stands for any type's zero
//! value, a field's name matches whatever its case, unknown fields are ignored. A mismatch names the field.

mod stream;
mod tree;

use std::fmt;

use serde::de::{self, DeserializeOwned};
use serde_json::{Map, Value};

use self::tree::Go;
use crate::ApiError;

/// Reads one JSON value and nothing after it.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    stream::read(text).map_or_else(|| from_tree(text), Ok)
}

fn from_tree<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        // Docker's words for a body that was cut off.
        let reason = if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() };
        ApiError::invalid(format!("invalid JSON: {reason}"))
    })?;
    let copy = (text.len() <= EXPLAINED).then(|| value.clone());
    T::deserialize(Go(value)).map_err(|mut error| {
        if let Some(name) = copy.and_then(|value| culprit::<T>(value, &error.path)) {
            error.path.insert(0, name);
        }
        ApiError::invalid(format!("invalid JSON: {error}"))
    })
}

/// The largest body, in bytes, of which an error is looked into.
const EXPLAINED: usize = 64 << 10;

/// Structs that flatten another lose the name of the field that does not fit (serde keeps no place for it). It is found
/// by leaving out one field after the other.
fn culprit<T: DeserializeOwned>(mut value: Value, path: &[String]) -> Option<String> {
    fn at<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Map<String, Value>> {
        let mut place = value;
        for step in path.iter().rev() {
            place = match place {
                Value::Object(fields) => fields.get_mut(step)?,
                Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        place.as_object_mut()
    }
    let names: Vec<String> = at(&mut value, path)?.keys().cloned().collect();
    names.into_iter().find(|name| {
        let Some(taken) = at(&mut value, path).and_then(|fields| fields.remove(name)) else { return false };
        let fits = T::deserialize(Go(value.clone())).is_ok();
        if let Some(fields) = at(&mut value, path) {
            fields.insert(name.clone(), taken);
        }
        fits
    })
}

#[derive(Debug)]
struct Mismatch {
    path: Vec<String>,
    problem: String,
}

impl Mismatch {
    fn inside(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if self.path.is_empty() {
            return Ok(());
        }
        f.write_str(" in field ")?;
        for (i, step) in self.path.iter().rev().enumerate() {
            write!(f, "{}{step}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), problem: message.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine_containers::config::CreateBody;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Clone, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        host_port: String,
    }

    #[derive(Debug, Default, Clone, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        count: u16,
        flag: bool,
        list: Vec<String>,
        size: [u32; 2],
        ports: BTreeMap<String, Vec<Inner>>,
        inner: Inner,
        maybe: Option<String>,
    }

    /// What is taken as it comes is what the whole says.
    fn read(text: &str) -> Result<Outer, ApiError> {
        let whole = from_tree(text.as_bytes());
        if let Some(streamed) = stream::read::<Outer>(text.as_bytes()) {
            assert_eq!(whole.as_ref().ok(), Some(&streamed), "{text}");
        }
        assert_eq!(from_slice(text.as_bytes()).ok(), whole.as_ref().ok().cloned(), "{text}");
        whole
    }

    #[test]
    fn an_ordinary_body_is_read_as_it_comes() {
        for text in [
            "null",
            r#"{"Name":null,"Count":null,"Flag":null,"List":null,"Ports":null,"Inner":null,"Maybe":null}"#,
            r#" {"name":"a","COUNT":3,"Bogus":{"x":[1,null]},"Size":[1,2],"Maybe":"\u00e4","List":["a",null]} "#,
            r#"{"Ports":{"80/tcp":null,"81/tcp":[{"HostPort":"1"},{"hostport":null},null]},"Inner":{}}"#,
        ] {
            assert_eq!(stream::read::<Outer>(text.as_bytes()), read(text).ok(), "{text}");
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_the_docker_cli_sends_to_create_a_container_is_read_as_it_comes() {
        let text = br#"{"Hostname":"","AttachStdin":false,"ExposedPorts":{"20000/tcp":{},"20001/tcp":{}},"Env":null,
            "Cmd":["sleep","1"],"Image":"box","Volumes":{},"Entrypoint":null,"Labels":{},"HostConfig":{"Binds":null,
            "LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{
                "20000/tcp":[{"HostIp":"","HostPort":"20000"}],"20001/tcp":[{"HostIp":"","HostPort":"20001"}]},
            "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"ConsoleSize":[0,0],"Dns":[],"Memory":0,"Devices":[],
            "MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"MaskedPaths":null},
            "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"GwPriority":0}}}}"#;
        let body: CreateBody = stream::read(text).unwrap();
        assert_eq!(body, from_tree(text).unwrap());
        assert_eq!(body.host_config.unwrap().port_bindings.unwrap().to_map().len(), 2);
    }

    #[test]
    fn what_is_not_ordinary_is_still_read_or_refused_as_ever() {
        for text in [
            r#"{"Size":null}"#,
            r#"{"Size":[1]}"#,
            r#"{"Size":[1,2,3]}"#,
            r#"{"Name":"a","Name":"b"}"#,
            r#"{"Name":"a","NAME":"b"}"#,
        ] {
            assert!(stream::read::<Outer>(text.as_bytes()).is_none(), "{text}");
            assert!(read(text).is_ok(), "{text}");
        }
        for text in
            [r#"{"Count":-1}"#, r#"{"Count":1.5}"#, r#"{"Flag":"true"}"#, r#"{"List":{}}"#, "[]", "1", "{}{}"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let text = r#"{"Name":null,"Count":null,"Flag":null,"List":null,"Size":null,"Ports":null,"Inner":null,"Maybe":null}"#;
        assert_eq!(read(text).unwrap(), Outer::default());
        assert_eq!(read("null").unwrap(), Outer::default());
    }

    #[test]
    fn null_in_a_map_keeps_the_key() {
        let ports = read(r#"{"Ports":{"80/tcp":null}}"#).unwrap().ports;
        assert_eq!(ports, BTreeMap::from([("80/tcp".to_owned(), vec![])]));
    }

    #[test]
    fn names_match_in_any_case_and_unknown_ones_are_ignored() {
        let outer = read(r#"{"name":"a","COUNT":3,"Bogus":{"x":[1]}}"#).unwrap();
        assert_eq!((outer.name.as_str(), outer.count), ("a", 3));
    }

    #[test]
    fn the_exact_name_wins_over_another_case() {
        assert_eq!(read(r#"{"Name":"exact","name":"other"}"#).unwrap().name, "exact");
    }

    #[test]
    fn keys_of_a_map_keep_their_case() {
        let map: BTreeMap<String, String> = from_slice(br#"{"Name":"a","name":"b"}"#).unwrap();
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn a_mismatch_names_the_field() {
        let error = read(r#"{"Ports":{"80/tcp":[{"HostPort":80}]}}"#).unwrap_err();
        assert_eq!(
            error.message,
            "invalid JSON: cannot unmarshal number into a value of type string in field Ports.80/tcp.0.HostPort"
        );
        assert!(read(r#"{"Count":70000}"#).unwrap_err().message.contains("in field Count"));
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Flat {
        #[serde(flatten)]
        outer: Outer,
        host: Option<Box<Flat>>,
    }

    #[test]
    fn a_mismatch_in_a_flattened_struct_names_the_field_too() {
        let error = |text: &str| from_slice::<Flat>(text.as_bytes()).unwrap_err().message;
        assert!(
            error(r#"{"List":[],"Name":5}"#).ends_with("in field Name"),
            "{}",
            error(r#"{"List":[],"Name":5}"#)
        );
        let nested = error(r#"{"Name":"a","Host":{"Flag":true,"Count":"x"}}"#);
        assert!(nested.ends_with("in field Host.Count"), "{nested}");
    }

    #[test]
    fn a_body_that_is_cut_off_or_has_more_is_refused() {
        assert_eq!(read("{").unwrap_err().message, "invalid JSON: unexpected EOF");
        assert!(read("{} {}").unwrap_err().message.starts_with("invalid JSON: trailing"));
    }
}
