//! Images from the outside: import, load, save, names, removal.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{Cursor, Write};

use engine_filters::Filters;
use engine_images::wire::RemovedItem;
use engine_images::{Error, ImageUse, ImportOptions, ListOptions, Progress, RemoveOptions};
use libnetwork_model::{ErrorKind, HasKind};
use proptest::prelude::*;
use support::{World, bytes, docker_archive, in_a_world, tar};

fn one_file() -> Vec<u8> {
    tar(&[("bin", None), ("bin/sh", Some(b"#!"))])
}

fn filters(entries: &[(&str, &str)]) -> Filters {
    entries.iter().copied().collect()
}

async fn load(world: &World, archive: Vec<u8>) -> Result<Vec<engine_images::Loaded>, Error> {
    world.store.load(Cursor::new(archive), true, Progress::none()).await
}

#[test]
fn an_import_has_what_its_request_says() {
    in_a_world(async |world| {
        let options = ImportOptions {
            reference: Some("web:1".to_owned()),
            changes: vec!["CMD [\"httpd\"]".to_owned(), "ENV A=b".to_owned(), "EXPOSE 80".to_owned()],
            platform: Some("linux/arm64/v8".to_owned()),
            source: "-".to_owned(),
            ..ImportOptions::default()
        };
        let (progress, mut items) = Progress::channel();
        let id = world.store.import(Cursor::new(one_file()), options, progress).await.unwrap();
        assert_eq!(items.recv().await.unwrap().status.unwrap(), id.to_string());
        let image = world.store.inspect("web:1").await.unwrap();
        assert_eq!((image.id.clone(), image.repo_tags), (id.to_string(), vec!["web:1".to_owned()]));
        assert_eq!((image.architecture.as_str(), image.variant.as_str(), image.size), ("arm64", "v8", 2));
        assert_eq!((image.comment.as_str(), image.root_fs.layers.len()), ("Imported from -", 1));
        let json =
            serde_json::to_value(world.store.inspect("web:1").await.unwrap()).unwrap()["Config"].clone();
        assert_eq!((&json["Labels"], &json["User"]), (&serde_json::Value::Null, &"".into()));
        assert_eq!(json["Cmd"], serde_json::json!(["httpd"]));
        assert_eq!(json["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
        for word in [&id.hex()[..12], &id.hex(), &id.to_string(), &id.to_string()[..20]] {
            assert_eq!(world.store.resolve(word).await.unwrap().id, id, "{word}");
        }
        let history = world.store.history("web:1").await.unwrap();
        assert_eq!((history.len(), history[0].id.as_str(), history[0].size), (1, image.id.as_str(), 2));
    });
}

#[test]
fn compressed_imports_have_the_same_layer() {
    in_a_world(async |world| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&one_file()).unwrap();
        let zstd = zstd::encode_all(one_file().as_slice(), 1).unwrap();
        world.import(one_file(), "plain").await;
        world.import(gzip.finish().unwrap(), "gzip").await;
        world.import(zstd, "zstd").await;
        let mut layers = Vec::new();
        for name in ["plain", "gzip", "zstd"] {
            layers.push(world.store.inspect(name).await.unwrap().root_fs.layers);
        }
        assert!(layers[0] == layers[1] && layers[1] == layers[2]);
        assert_eq!(world.store.disk_usage().await.unwrap().layers_size, 2);
    });
}

#[test]
fn unknown_and_malformed_names_say_so() {
    in_a_world(async |world| {
        for (name, kind, message) in [
            ("foo", ErrorKind::NotFound, "No such image: foo:latest"),
            ("foo@sha256:x", ErrorKind::Invalid, "invalid reference format"),
            ("a b", ErrorKind::Invalid, "invalid reference format"),
            ("Foo", ErrorKind::Invalid, "invalid reference format: repository name (Foo) must be lowercase"),
        ] {
            let error = world.store.inspect(name).await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
        let error = world.store.save(&["foo".to_owned()]).await.unwrap_err();
        assert_eq!(error.to_string(), "No such image: foo:latest");
        let options = ListOptions { filters: filters(&[("colour", "red")]), ..ListOptions::default() };
        assert_eq!(world.store.list(options).await.unwrap_err().to_string(), "invalid filter 'colour'");
    });
}

#[test]
fn an_ambiguous_prefix_is_named() {
    in_a_world(async |world| {
        let mut first = std::collections::BTreeMap::new();
        for n in 0..17 {
            let id = world.import(tar(&[(&format!("f{n}"), Some(b""))]), &format!("i{n}")).await;
            if first.insert(id.hex().chars().next().unwrap(), id).is_some() {
                let prefix = format!("sha256:{}", &id.hex()[..1]);
                let error = world.store.inspect(&prefix).await.unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("multiple images found with provided prefix: {prefix}")
                );
                return;
            }
        }
        panic!("17 ids with 16 first digits");
    });
}

#[test]
fn what_is_saved_loads_with_the_same_ids() {
    in_a_world(async |mut world| {
        let shared = tar(&[("etc", None), ("etc/os-release", Some(b"x"))]);
        let layers = [shared.clone(), tar(&[("a", Some(b"1"))]), shared];
        let loaded = load(&world, docker_archive(&layers, &["multi:1", "multi:2"])).await.unwrap();
        assert_eq!(loaded[0].names, ["multi:1", "multi:2"]);
        let other = world.import(one_file(), "reg.example:5000/x/y:z").await;
        let names = ["multi".to_owned(), other.hex()[..12].to_owned()];
        let archive = bytes(world.store.save(&names).await.unwrap()).await;
        assert_eq!(archive, bytes(world.store.save(&names).await.unwrap()).await);
        let before = world.store.inspect("multi:2").await.unwrap();
        assert_eq!(world.store.list(ListOptions::default()).await.unwrap().len(), 2);

        for name in ["multi:1", "multi:2", "reg.example:5000/x/y:z"] {
            world.store.remove(name, RemoveOptions::default(), &[]).await.unwrap();
        }
        assert_eq!(world.files(), Vec::<String>::new());
        world.reopen().await;
        let again = load(&world, archive.clone()).await.unwrap();
        assert_eq!((again[0].id, again[1].id), (loaded[0].id, other));
        assert_eq!((again[0].names.len(), again[1].names.len()), (2, 0));
        let after = world.store.inspect("multi:2").await.unwrap();
        assert_eq!((before.id, before.root_fs, before.size), (after.id, after.root_fs, after.size));

        // The same archive as a plain OCI layout, and compressed.
        let mut oci = tar::Builder::new(Vec::new());
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().into_owned();
            if path.to_str() != Some("manifest.json") {
                let mut header = entry.header().clone();
                oci.append_data(&mut header, path, &mut entry).unwrap();
            }
        }
        let oci = zstd::encode_all(oci.into_inner().unwrap().as_slice(), 1).unwrap();
        world.store.prune(filters(&[("dangling", "false")]), &[]).await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
        let third = load(&world, oci).await.unwrap();
        assert!(third.iter().any(|image| image.id == loaded[0].id && image.names == ["multi:1"]));
        assert!(third.iter().any(|image| image.id == other));
        assert_eq!(world.store.inspect("multi:2").await.unwrap().repo_tags, ["multi:1", "multi:2"]);
    });
}

#[test]
fn a_broken_archive_leaves_nothing_behind() {
    in_a_world(async |world| {
        let good = docker_archive(&[one_file(), tar(&[("x", Some(&[7; 3000]))])], &["x"]);
        for length in (0..good.len() - 1024).step_by(512).chain([1, 700, good.len() - 1500]) {
            let error = load(&world, good[..length].to_vec()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "cut at {length}: {error}");
            assert_eq!(world.files(), Vec::<String>::new(), "cut at {length}");
        }
        let at = good.windows(100).position(|window| window == [7; 100]).unwrap();
        let mut corrupt = good.clone();
        corrupt[at] ^= 1;
        let error = load(&world, corrupt).await.unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert!(error.to_string().starts_with("invalid diffID for layer 1: expected"), "{error}");
        let error = load(&world, one_file()).await.unwrap_err();
        assert!(error.to_string().contains("not an image archive"), "{error}");
        let options = ImportOptions::default();
        world.store.import(Cursor::new(b"no tar".repeat(200)), options, Progress::none()).await.unwrap_err();
        assert_eq!(world.files(), Vec::<String>::new());
        assert!(load(&world, good).await.is_ok());
    });
}

#[test]
fn a_name_moves_and_leaves_the_old_image_dangling() {
    in_a_world(async |world| {
        let old = world.import(one_file(), "app").await;
        let new = world.import(tar(&[("b", Some(b"2"))]), "app").await;
        let dangling = ListOptions { filters: filters(&[("dangling", "true")]), ..ListOptions::default() };
        let list = world.store.list(dangling).await.unwrap();
        assert_eq!((list.len(), list[0].id.clone(), list[0].repo_tags.len()), (1, old.to_string(), 0));
        assert_eq!(world.store.tag("app", "me/copy", "7").await.unwrap(), (new, "me/copy:7".to_owned()));
        let named = ListOptions { filters: filters(&[("reference", "me/*:7")]), ..ListOptions::default() };
        assert_eq!(world.store.list(named).await.unwrap()[0].repo_tags, ["me/copy:7"]);
        let used = ImageUse { container_id: "c".repeat(64), image: old, running: false };
        assert_eq!(
            world.store.prune(Filters::default(), std::slice::from_ref(&used)).await.unwrap().images_deleted,
            None
        );
        let report = world.store.prune(Filters::default(), &[]).await.unwrap();
        assert_eq!((report.space_reclaimed, report.images_deleted.unwrap().len()), (2, 2));
        let error = world.store.tag("app", "Bad", "").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}

#[test]
fn removal_follows_dockers_rules() {
    in_a_world(async |world| {
        let id = world.import(one_file(), "app:1").await;
        world.store.tag("app:1", "app", "2").await.unwrap();
        world.store.tag("app:1", "other", "").await.unwrap();
        let remove = async |word: &str, force, uses: &[ImageUse]| {
            world.store.remove(word, RemoveOptions { force, no_prune: false }, uses).await
        };
        let error = remove(&id.short(), false, &[]).await.unwrap_err();
        let short = id.short();
        assert_eq!(
            error.to_string(),
            format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )
        );
        assert_eq!(remove("app:2", false, &[]).await.unwrap(), [RemovedItem::Untagged("app:2".to_owned())]);
        remove("other", false, &[]).await.unwrap();
        let stopped = [ImageUse { container_id: "ab".repeat(32), image: id, running: false }];
        let running = [ImageUse { running: true, ..stopped[0].clone() }];
        let error = remove("app:1", false, &stopped).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (
                ErrorKind::Conflict,
                format!(
                    "conflict: unable to remove repository reference \"app:1\" (must force) - container abababababab is \
                     using its referenced image {short}"
                )
            )
        );
        let error = remove(&short, true, &running).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by running container \
                 abababababab"
            )
        );
        let error = remove(&short, false, &stopped).await.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("(must be forced) - image is being used by stopped container abababababab")
        );
        let removed = remove(&short, false, &[]).await.unwrap();
        let layer = removed[2].clone();
        assert_eq!(
            removed[..2],
            [RemovedItem::Untagged("app:1".to_owned()), RemovedItem::Deleted(id.to_string())]
        );
        assert!(matches!(layer, RemovedItem::Deleted(_)));
        assert_eq!(world.files(), Vec::<String>::new());
        assert_eq!(remove("app:1", true, &[]).await.unwrap_err().to_string(), "No such image: app:1");
    });
}

#[test]
fn half_done_work_of_a_crash_is_gone_at_the_next_start() {
    in_a_world(async |mut world| {
        world.import(one_file(), "kept").await;
        let before = world.files();
        let images = world.dir.join("images");
        std::fs::create_dir_all(images.join("tmp/x/diff/etc")).unwrap();
        std::fs::write(images.join("tmp/x/layer"), b"half").unwrap();
        std::fs::create_dir_all(images.join(format!("layers/{}/diff/bin", "0".repeat(64)))).unwrap();
        std::fs::write(images.join("blobs/sha256").join("0".repeat(64)), b"stray").unwrap();
        std::fs::write(images.join("catalog.new"), b"{half").unwrap();
        world.reopen().await;
        std::fs::remove_file(images.join("catalog.new")).unwrap();
        assert_eq!(world.files(), before);
        assert!(world.store.inspect("kept").await.is_ok());
    });
}

#[test]
fn loads_of_the_same_image_at_once_agree() {
    in_a_world(async |world| {
        let archive = docker_archive(&[one_file(), tar(&[("x", Some(b"1"))])], &["x"]);
        let loads: Vec<_> = (0..8)
            .map(|n| {
                let (store, archive) = (world.store.clone(), archive.clone());
                tokio::spawn(async move {
                    if n % 3 == 2 {
                        let _ = store.remove("x", RemoveOptions { force: true, no_prune: false }, &[]).await;
                    }
                    store.load(Cursor::new(archive), true, Progress::none()).await
                })
            })
            .collect();
        for load in loads {
            load.await.unwrap().unwrap();
        }
        assert_eq!(world.store.list(ListOptions::default()).await.unwrap().len(), 1);
        world.store.remove("x", RemoveOptions::default(), &[]).await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
    });
}

fn any_layer() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop_oneof!["[a-c]", "[a-c]/[a-c]", Just("a/.wh.b".to_owned()), "[a-c]{110}", Just("ü".to_owned())];
    let file = (name, prop::option::of(prop::collection::vec(any::<u8>(), 0..900)));
    (prop::collection::vec(file, 0..5), 0..3).prop_map(|(files, compression)| {
        let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_deref())).collect();
        let plain = tar(&files);
        match compression {
            0 => zstd::encode_all(plain.as_slice(), 1).unwrap(),
            _ => plain,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_image_survives_save_and_load(images in prop::collection::vec(prop::collection::vec(any_layer(), 0..4), 1..3)) {
        in_a_world(async |world| {
            let mut words = Vec::new();
            for (n, layers) in images.iter().enumerate() {
                match load(&world, docker_archive(layers, &[&format!("i{n}")])).await {
                    Ok(loaded) => words.push(loaded[0].names[0].clone()),
                    // A name both a file and a parent of one.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
                }
            }
            if words.is_empty() {
                assert_eq!(world.files(), Vec::<String>::new());
                return;
            }
            let mut before = Vec::new();
            for word in &words {
                before.push(world.store.inspect(word).await.unwrap());
            }
            let archive = bytes(world.store.save(&words).await.unwrap()).await;
            let files = world.files();
            world.store.prune(filters(&[("dangling", "false")]), &[]).await.unwrap();
            assert_eq!(world.files(), Vec::<String>::new());
            load(&world, archive.clone()).await.unwrap();
            for (word, before) in words.iter().zip(before) {
                let after = world.store.inspect(word).await.unwrap();
                assert_eq!((after.id, after.root_fs, after.size), (before.id, before.root_fs, before.size));
            }
            assert_eq!(world.files(), files);
            assert!(bytes(world.store.save(&words).await.unwrap()).await == archive);
        });
    }
}
