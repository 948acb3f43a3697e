//! What the machine says once.

use std::{fs, fs::File, io, io::Read};

/// Names this boot of the machine (random(4)).
pub(crate) fn id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// 32 random bytes at each call.
pub(crate) fn random() -> io::Result<Box<dyn FnMut() -> [u8; 32] + Send>> {
    let mut source = File::open("/dev/urandom")?;
    Ok(Box::new(move || {
        let mut bytes = [0; 32];
        // Reads of up to 256 bytes are whole and do not fail (random(4)).
        source.read_exact(&mut bytes).expect("/dev/urandom gives bytes");
        bytes
    }))
}
