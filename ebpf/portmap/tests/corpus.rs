//! The packets in `corpus/`, from the network header on, and mutations of them (BPF_PROG_TEST_RUN): none leaves with a
//! checksum that is less right than the one it came with.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{fs, path::Path};

use libnetwork_model::Protocol;
use world::{
    World, hardware_address, mapping,
    packets::frame,
    random::Random,
    runner::{Runner, TC_ACT_REDIRECT},
};

const ROUNDS: usize = 1500;

/// A seed's bytes: hexadecimal digits, below a line that says what it is.
fn read(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with("# "), "{}: the first line says what it is", path.display());
    let digits: Vec<_> = text.lines().skip(1).flat_map(str::chars).map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn no_packet_of_the_corpus_leaves_with_a_wrong_checksum() {
    let mut world = World::new();
    world.obey = false;
    world.reopen();
    world.publish(&[Protocol::Tcp, Protocol::Udp].map(|protocol| mapping(protocol, None, 8080, 8080, 80)));
    let runners =
        [(Runner::new(&world, "towards", "up0"), "up0"), (Runner::new(&world, "back", "cwa"), "cwa")];
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Backwards, so that the flows that ICMP errors quote have begun.
    paths.sort_by(|a, b| b.cmp(a));
    assert!(!paths.is_empty());
    world.inside("host", || {
        let mut random = Random::new();
        let mut translated = Vec::new();
        for path in &paths {
            let seed = read(path);
            for (runner, link) in &runners {
                let whole = frame(hardware_address(link), &seed);
                if runner.check(&whole) == TC_ACT_REDIRECT {
                    translated.push(path.file_stem().unwrap().to_str().unwrap());
                }
                for _ in 0..ROUNDS {
                    runner.check(&random.damaged(&whole));
                }
            }
        }
        // The seeds reach the code that changes packets.
        for seed in ["tcp4_options", "tcp6_extensions", "icmp4_quoting"] {
            assert!(translated.contains(&seed), "{seed}: {translated:?}");
        }
        println!("translated: {translated:?}");
    });
}
