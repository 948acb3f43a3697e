//! Names and ids of containers.

use std::{fs::File, io::Read};

use crate::{Error, Result};

const ADJECTIVES: &[&str] = &[
    "agile", "alert", "amber", "ample", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "careful", "cheerful", "clear", "clever", "coastal", "cosy", "crisp", "curious", "daring", "deft",
    "eager", "early", "earnest", "easy", "elated", "fair", "faithful", "festive", "fluent", "fond", "frank",
    "friendly", "gentle", "glad", "golden", "graceful", "grand", "happy", "hardy", "helpful", "honest",
    "hopeful", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry",
    "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "polite", "proud", "quick", "quiet",
    "radiant", "ready", "robust", "rustic", "serene", "sharp", "silent", "sincere", "smooth", "snug",
    "solid", "spry", "steady", "sturdy", "sunny", "swift", "tidy", "tranquil", "trusty", "upbeat", "vivid",
    "warm", "watchful", "wise", "witty", "zesty",
];

/// People without whom there would be no networks, bridges or tides to build causeways against.
const SURNAMES: &[&str] = &[
    "abbate",
    "abel",
    "agnesi",
    "ampere",
    "baran",
    "bazalgette",
    "bell",
    "benz",
    "bernoulli",
    "boggs",
    "bohr",
    "borg",
    "boyle",
    "brunel",
    "carnot",
    "cerf",
    "clarke",
    "cochrane",
    "cohen",
    "coulomb",
    "crocker",
    "curie",
    "dalal",
    "davies",
    "deering",
    "diffie",
    "dijkstra",
    "edison",
    "eiffel",
    "ellet",
    "engelbart",
    "estrin",
    "euler",
    "faraday",
    "feinler",
    "fermat",
    "floyd",
    "fourier",
    "franklin",
    "galvani",
    "gauss",
    "germain",
    "hamming",
    "heaviside",
    "hellman",
    "henry",
    "hertz",
    "holberton",
    "hopper",
    "huffman",
    "jacobson",
    "kahn",
    "karels",
    "kepler",
    "kirchhoff",
    "kirstein",
    "kleinrock",
    "lamarr",
    "lamport",
    "leonhardt",
    "licklider",
    "lovelace",
    "marconi",
    "maxwell",
    "metcalfe",
    "mills",
    "mockapetris",
    "morse",
    "nakamura",
    "newton",
    "noether",
    "nyquist",
    "ohm",
    "partridge",
    "pascal",
    "perlman",
    "popov",
    "postel",
    "pouzin",
    "reynolds",
    "roberts",
    "roebling",
    "shannon",
    "siemens",
    "smeaton",
    "stevin",
    "strowger",
    "telford",
    "tesla",
    "thurman",
    "tomlinson",
    "torvald",
    "turing",
    "vail",
    "vixie",
    "volta",
    "watt",
    "weber",
    "wheatstone",
    "wilkes",
    "wing",
    "yagi",
    "zimmermann",
];

/// Refuses a name that is not `[a-zA-Z0-9][a-zA-Z0-9_.-]+`. A leading slash is Docker's own and passes.
pub(crate) fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bare.len() > 1 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest {
        Ok(bare)
    } else {
        Err(Error::Invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

/// A name to offer; from the third attempt on with a digit behind it, so that it will not collide forever.
pub(crate) fn random(attempt: usize) -> Result<String> {
    let bytes = random_bytes::<8>()?;
    let pick = |words: &[&'static str], bytes: &[u8]| {
        words[usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % words.len()]
    };
    let name = format!("{}_{}", pick(ADJECTIVES, &bytes[..2]), pick(SURNAMES, &bytes[2..4]));
    Ok(if attempt < 3 {
        name
    } else {
        format!("{name}{}", u32::from_le_bytes([bytes[4], bytes[5], bytes[6], 0]))
    })
}

/// Whether this is the full id of a container.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An id of 64 hexadecimal digits. Not all of the first 12 are decimal: the short id serves as a host name, and a
/// number would be read as an address.
pub(crate) fn id() -> Result<String> {
    use std::fmt::Write;
    loop {
        let mut id = String::with_capacity(64);
        for byte in random_bytes::<32>()? {
            // Writing to a String does not fail.
            let _ = write!(id, "{byte:02x}");
        }
        if id[..12].bytes().any(|b| !b.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("read", "/dev/urandom"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_grammar() {
        for good in ["web", "w1", "0_", "a.b-c_d", "/web"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "_c3", "-x", ".x", "a b", "a/b", "ä1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(
            check("_c3").unwrap_err().to_string(),
            "Invalid container name (_c3), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn offered_names_are_valid_and_ids_are_ids() {
        for attempt in 0..6 {
            check(&random(attempt).unwrap()).unwrap();
        }
        let id = id().unwrap();
        assert_eq!(id.len(), 64);
        assert!(is_id(&id));
    }

    #[test]
    fn every_word_makes_a_valid_name() {
        for word in ADJECTIVES.iter().chain(SURNAMES) {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
        }
    }
}
