//! How a tar is compressed, told from its first bytes.

use std::io::{self, BufReader, Read};

use serde::{Deserialize, Serialize};

/// What a blob's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The OCI media type of a layer so compressed.
    pub(crate) fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The plain bytes behind `reader`. bzip2 and xz are told apart only to be named in the refusal.
pub(crate) fn decompress<'a>(mut reader: impl Read + 'a) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut magic = [0; 6];
    let mut filled = 0;
    while filled < magic.len() {
        match reader.read(&mut magic[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    let seen = magic[..filled].to_vec();
    let whole = BufReader::with_capacity(64 << 10, io::Cursor::new(seen.clone()).chain(reader));
    Ok(match seen.as_slice() {
        [0x1f, 0x8b, 0x08, ..] => (Compression::Gzip, Box::new(flate2::bufread::MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (Compression::Zstd, Box::new(zstd::Decoder::with_buffer(whole)?)),
        [b'B', b'Z', b'h', ..] => return Err(io::Error::other("bzip2 compression is not supported")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(io::Error::other("xz compression is not supported")),
        _ => (Compression::None, Box::new(whole)),
    })
}
