use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A string that is no id: ids are 64 lowercase hexadecimal digits, as Docker's are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of 64 lowercase hexadecimal digits")]
pub struct IdError {
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id made of these 32 random bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                use fmt::Write;
                let mut text = String::with_capacity(64);
                for byte in bytes {
                    write!(text, "{byte:02x}").expect("writing to a String does not fail");
                }
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, which people see.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if text.len() == 64 && text.bytes().all(hex) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { text: text.chars().take(80).collect() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

id!(
    /// Identifies a network for as long as it exists.
    NetworkId
);
id!(
    /// Identifies one attachment of a sandbox to a network.
    EndpointId
);
id!(
    /// Identifies a sandbox: a network namespace with its resolver and published ports.
    SandboxId
);
