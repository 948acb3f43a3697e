use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use proptest::prelude::*;
use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;
use crate::layer::{Style, is_opaque, is_whiteout, pack};

/// An entry as hostile as one likes: names go into the header as they are.
fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    if kind == EntryType::Char {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn unpacked(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> (TempDir, Result<Unpacked>) {
    let mut tar = Builder::new(Vec::new());
    fill(&mut tar);
    let dir = TempDir::new().unwrap();
    let result = unpack(tar.into_inner().unwrap().as_slice(), dir.path());
    (dir, result)
}

#[test]
fn an_entry_keeps_kind_owner_mode_time_and_attributes() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (dir, result) = unpacked(|tar| {
        entry(tar, EntryType::Directory, "./d/", "", b"");
        tar.append_pax_extensions([
            ("SCHILY.xattr.security.capability", capability.as_slice()),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("mtime", b"1234567890.5"),
        ])
        .unwrap();
        entry(tar, EntryType::Regular, "./d/file", "", b"hello");
        entry(tar, EntryType::Link, "./d/same", "d/file", b"");
        entry(tar, EntryType::Symlink, "./d/link", "/etc/passwd", b"");
        entry(tar, EntryType::Char, "./d/null", "", b"");
        entry(tar, EntryType::Fifo, "./d/fifo", "", b"");
        entry(tar, EntryType::Regular, "made/on/the/way", "", b"x");
    });
    assert_eq!(result.unwrap(), Unpacked { size: 6 + 11, has_root: false });
    let d = dir.path().join("d");
    let stat = |name: &str| fs::symlink_metadata(d.join(name)).unwrap();
    let file = stat("file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 8, 0o4755));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_234_567_890, 500_000_000));
    assert_eq!(xattr::get(d.join("file"), "security.capability").unwrap().unwrap(), capability);
    assert_eq!(xattr::get(d.join("file"), "trusted.overlay.redirect").unwrap(), None);
    assert_eq!(stat("same").ino(), file.ino());
    assert_eq!(fs::read_link(d.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(stat("link").uid(), 7);
    assert_eq!((stat("null").rdev(), stat("null").file_type().is_char_device()), (makedev(1, 3), true));
    assert!(stat("fifo").file_type().is_fifo());
    assert_eq!(fs::metadata(&d).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(dir.path().join("made/on")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    let (dir, result) = unpacked(|tar| {
        entry(tar, EntryType::Regular, "etc/.wh.gone", "", b"");
        entry(tar, EntryType::Regular, "var/.wh..wh..opq", "", b"");
        entry(tar, EntryType::Regular, "var/kept", "", b"");
        entry(tar, EntryType::Regular, ".wh.replaced", "", b"");
        entry(tar, EntryType::Directory, "replaced", "", b"");
        entry(tar, EntryType::Regular, ".wh..wh.plnk", "", b"");
    });
    result.unwrap();
    assert!(is_whiteout(&fs::symlink_metadata(dir.path().join("etc/gone")).unwrap()));
    assert!(is_opaque(&dir.path().join("var")).unwrap());
    assert!(is_opaque(&dir.path().join("replaced")).unwrap());
    assert!(!is_opaque(&dir.path().join("etc")).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);

    let mut packed = Vec::new();
    pack(dir.path(), Style::Layer, &mut packed).unwrap();
    let mut archive = tar::Archive::new(packed.as_slice());
    let names: Vec<String> = (archive.entries().unwrap())
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        names,
        [
            "etc/",
            "etc/.wh.gone",
            "replaced/",
            "replaced/.wh..wh..opq",
            "var/",
            "var/.wh..wh..opq",
            "var/kept"
        ]
    );
}

#[test]
fn a_name_that_climbs_out_is_refused() {
    for (kind, name, link) in [
        (EntryType::Regular, "../x", ""),
        (EntryType::Regular, "a/../../x", ""),
        (EntryType::Link, "x", "../../etc/passwd"),
        (EntryType::Link, "x", "missing"),
        (EntryType::Regular, "a/.wh...", ""),
    ] {
        let (dir, result) = unpacked(|tar| entry(tar, kind, name, link, b""));
        assert!(matches!(result, Err(Error::Archive(_))), "{name}: {result:?}");
        assert!(!dir.path().join("x").exists());
    }
    let (dir, result) = unpacked(|tar| entry(tar, EntryType::Regular, "/../abs", "", b""));
    result.unwrap();
    assert!(dir.path().join("abs").is_file());
}

#[test]
fn a_link_on_the_way_resolves_inside() {
    let (dir, result) = unpacked(|tar| {
        entry(tar, EntryType::Symlink, "out", "/../../inside", b"");
        entry(tar, EntryType::Directory, "inside", "", b"");
        entry(tar, EntryType::Regular, "out/file", "", b"x");
    });
    result.unwrap();
    assert!(dir.path().join("inside/file").is_file());
}

#[test]
fn an_archive_cut_off_anywhere_is_an_error_or_a_prefix() {
    let mut tar = Builder::new(Vec::new());
    entry(&mut tar, EntryType::Regular, "a", "", &[1; 700]);
    entry(&mut tar, EntryType::Regular, "b", "", &[2; 700]);
    let bytes = tar.into_inner().unwrap();
    for length in (0..bytes.len()).step_by(100) {
        let dir = TempDir::new().unwrap();
        match unpack(&bytes[..length], dir.path()) {
            // Like GNU tar and Go, the crate takes an end between two entries for the end.
            Ok(unpacked) => assert_eq!(unpacked.size % 700, 0, "cut at {length}"),
            Err(Error::Archive(_)) => {}
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
}

#[test]
fn long_names_and_links_survive_packing() {
    let from = TempDir::new().unwrap();
    let long = "x".repeat(120);
    let deep = from.path().join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("ä"), b"1").unwrap();
    fs::hard_link(deep.join("ä"), deep.join("b")).unwrap();
    std::os::unix::fs::symlink(format!("/{long}"), deep.join("l")).unwrap();
    xattr::set(deep.join("ä"), "user.note", b"v\0").unwrap();
    let mut packed = Vec::new();
    pack(from.path(), Style::Export, &mut packed).unwrap();
    let to = TempDir::new().unwrap();
    unpack(packed.as_slice(), to.path()).unwrap();
    let deep = to.path().join(&long).join(&long);
    assert_eq!(fs::metadata(deep.join("ä")).unwrap().ino(), fs::metadata(deep.join("b")).unwrap().ino());
    assert_eq!(xattr::get(deep.join("ä"), "user.note").unwrap().unwrap(), b"v\0");
    assert_eq!(fs::read_link(deep.join("l")).unwrap().as_os_str().len(), 121);
    let mut again = Vec::new();
    pack(to.path(), Style::Export, &mut again).unwrap();
    assert!(again == packed, "the same content gave other bytes");
}

fn hostile_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab]",
        2 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just(".wh.a".to_owned()),
        1 => Just(".wh..wh..opq".to_owned()),
        1 => Just("outside".to_owned()),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn hostile_entry() -> impl Strategy<Value = (EntryType, String, String)> {
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
    ]);
    (kind, hostile_name(), hostile_name())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_is_touched(entries in prop::collection::vec(hostile_entry(), 1..12)) {
        let around = TempDir::new().unwrap();
        let outside = around.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("a"), b"precious").unwrap();
        let inside = around.path().join("b/root");
        fs::create_dir_all(&inside).unwrap();
        let before = fs::metadata(&outside).unwrap();
        let mut tar = Builder::new(Vec::new());
        for (kind, name, link) in &entries {
            // Absolute targets that would be right outside, if they were followed outside.
            let link = match kind {
                EntryType::Symlink if link.starts_with("outside") => around.path().join(link).to_string_lossy().into_owned(),
                _ => link.clone(),
            };
            entry(&mut tar, *kind, name, &link, if *kind == EntryType::Regular { b"evil" } else { b"" });
        }
        let _ = unpack(tar.into_inner().unwrap().as_slice(), &inside);
        let after = fs::metadata(&outside).unwrap();
        prop_assert_eq!((before.mode(), before.uid(), before.mtime_nsec()), (after.mode(), after.uid(), after.mtime_nsec()));
        let file = fs::metadata(outside.join("a")).unwrap();
        prop_assert_eq!((file.len(), file.uid(), file.nlink()), (8, 0, 1));
        prop_assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        prop_assert_eq!(fs::read_dir(around.path()).unwrap().count(), 2);
        prop_assert_eq!(fs::read_dir(around.path().join("b")).unwrap().count(), 1);
    }
}
