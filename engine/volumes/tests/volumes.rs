//! Volumes from the outside, each test in a mount namespace and a tmpfs of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use engine_filters::Filters;
use engine_volumes::{CreateVolume, Error, VolumeStore};
use libnetwork_model::{ErrorKind, HasKind};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn in_a_world<F: Future<Output = ()>>(test: impl FnOnce(PathBuf, VolumeStore) -> F + Send) {
    let dir = tempfile::TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = VolumeStore::open(dir.path().join("volumes")).await.unwrap();
                test(dir.path().to_owned(), store).await;
            });
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn map(entries: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn named(name: &str) -> CreateVolume {
    CreateVolume { name: name.to_owned(), ..CreateVolume::default() }
}

fn filters(entries: &[(&str, &str)]) -> Filters {
    entries.iter().copied().collect()
}

fn unused(_: &str) -> Vec<String> {
    Vec::new()
}

#[test]
fn a_volume_is_made_once_and_survives_a_restart() {
    in_a_world(async |dir, store| {
        let request = CreateVolume { labels: map(&[("a", "b")]), ..named("data") };
        let (volume, made) = store.create(request).await.unwrap();
        assert!(made && Path::new(&volume.mountpoint).is_dir());
        assert_eq!(store.create(named("data")).await.unwrap(), (volume.clone(), false));
        let store = VolumeStore::open(dir.join("volumes")).await.unwrap();
        assert_eq!(store.inspect("data").await.unwrap(), volume);
        let json = serde_json::to_value(&volume).unwrap();
        assert_eq!(
            (&json["Driver"], &json["Scope"], &json["Labels"]["a"]),
            (&"local".into(), &"local".into(), &"b".into())
        );
        assert!(json["Options"].is_null());
    });
}

#[test]
fn bad_requests_make_nothing() {
    in_a_world(async |dir, store| {
        for name in ["a", "-x", "a/b", "..", "a b", "é1"] {
            let error = store.create(named(name)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        }
        let driver = CreateVolume { driver: "nope".to_owned(), ..named("xx") };
        assert_eq!(store.create(driver).await.unwrap_err().kind(), ErrorKind::NotFound);
        for options in [[("colour", "red")], [("type", "tmpfs")], [("o", "bind")]] {
            let request = CreateVolume { driver_opts: map(&options), ..named("xx") };
            assert_eq!(store.create(request).await.unwrap_err().kind(), ErrorKind::Invalid, "{options:?}");
        }
        assert_eq!(fs::read_dir(dir.join("volumes")).unwrap().count(), 0);
        let error = store.inspect("../x").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::NotFound, "get ../x: no such volume")
        );
    });
}

#[test]
fn a_volume_in_use_stays() {
    in_a_world(async |dir, store| {
        store.create(named("data")).await.unwrap();
        let used = |_: &str| vec!["c1".to_owned(), "c2".to_owned()];
        let error = store.remove("data", true, used).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.to_string(), "remove data: volume is in use - [c1, c2]");
        store.remove("data", false, unused).await.unwrap();
        assert!(matches!(store.remove("data", false, unused).await, Err(Error::NoSuchVolume(_))));
        store.remove("data", true, unused).await.unwrap();
        assert_eq!(fs::read_dir(dir.join("volumes")).unwrap().count(), 0);
    });
}

#[test]
fn prune_takes_anonymous_volumes_and_with_all_the_named() {
    in_a_world(async |_, store| {
        store.create(named("named")).await.unwrap();
        store.create(CreateVolume { labels: map(&[("keep", "")]), ..named("labelled") }).await.unwrap();
        let (anonymous, _) = store.create(CreateVolume::default()).await.unwrap();
        let (busy, _) = store.create(CreateVolume::default()).await.unwrap();
        assert_eq!((anonymous.name.len(), anonymous.labels.unwrap().len()), (64, 1));
        fs::write(Path::new(&anonymous.mountpoint).join("f"), b"12345").unwrap();
        let used_by = |name: &str| if name == busy.name { vec!["c".to_owned()] } else { Vec::new() };
        let usage = store.disk_usage(used_by).await.unwrap();
        let sizes: Vec<_> = usage.iter().map(|volume| volume.usage_data.unwrap().size).collect();
        assert_eq!(sizes.iter().sum::<i64>(), 5);
        let list = store.list(&filters(&[("dangling", "true")]), used_by).await.unwrap();
        assert_eq!(list.volumes.len(), 3);
        let report = store.prune(&Filters::default(), used_by).await.unwrap();
        assert_eq!((report.volumes_deleted.unwrap(), report.space_reclaimed), (vec![anonymous.name], 5));
        let report = store.prune(&filters(&[("all", "1"), ("label!", "keep")]), used_by).await.unwrap();
        assert_eq!(report.volumes_deleted.unwrap(), ["named"]);
        let list = store.list(&filters(&[("name", "abel"), ("label", "keep=")]), used_by).await.unwrap();
        assert_eq!(list.volumes.len(), 1);
        assert_eq!(
            store.list(&filters(&[("x", "y")]), unused).await.unwrap_err().to_string(),
            "invalid filter 'x'"
        );
    });
}

#[test]
fn driver_options_mount_for_as_long_as_asked() {
    in_a_world(async |dir, store| {
        let outside = dir.join("out side");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), b"x").unwrap();
        let device = outside.to_str().unwrap();
        let request = CreateVolume {
            driver_opts: map(&[("type", "none"), ("o", "bind,ro"), ("device", device)]),
            ..named("bound")
        };
        store.create(request.clone()).await.unwrap();
        let data = store.mount("bound").await.unwrap();
        assert_eq!(store.mount("bound").await.unwrap(), data);
        assert!(data.join("precious").exists() && fs::write(data.join("new"), b"").is_err());
        let other =
            CreateVolume { driver_opts: map(&[("type", "tmpfs"), ("device", "tmpfs")]), ..named("bound") };
        assert_eq!(store.create(other).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert!(!store.create(request).await.unwrap().1);
        store.unmount("bound").await.unwrap();
        assert!(!data.join("precious").exists());
        store.mount("bound").await.unwrap();
        store.remove("bound", false, unused).await.unwrap();
        assert!(outside.join("precious").exists());

        let options = map(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=5")]);
        store.create(CreateVolume { driver_opts: options, ..named("ram") }).await.unwrap();
        let data = store.mount("ram").await.unwrap();
        assert_eq!(fs::metadata(&data).unwrap().uid(), 5);
        let options = map(&[("type", "nosuchfs"), ("device", "/nowhere")]);
        store.create(CreateVolume { driver_opts: options, ..named("bad") }).await.unwrap();
        let error = store.mount("bad").await.unwrap_err();
        assert!(matches!(error, Error::Mount { .. }), "{error}");
    });
}

#[test]
fn an_empty_volume_starts_with_the_images_content() {
    in_a_world(async |dir, store| {
        let root = dir.join("root");
        let source = root.join("srv/data");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/file"), b"content").unwrap();
        fs::hard_link(source.join("sub/file"), source.join("same")).unwrap();
        symlink("/etc/passwd", source.join("link")).unwrap();
        std::os::unix::fs::chown(source.join("sub/file"), Some(11), Some(12)).unwrap();
        fs::set_permissions(source.join("sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        xattr::set(source.join("sub"), "trusted.note", b"v").unwrap();
        std::os::unix::fs::chown(&source, Some(33), Some(34)).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o2770)).unwrap();
        // As the container resolves it, not as the host would.
        symlink("/srv", root.join("alias")).unwrap();

        store.create(named("vol")).await.unwrap();
        store.copy_up("vol", &root, Path::new("/missing")).await.unwrap();
        store.copy_up("vol", &root, Path::new("/alias/data")).await.unwrap();
        let data = store.mount("vol").await.unwrap();
        let file = fs::metadata(data.join("sub/file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (11, 12, 0o4711));
        assert_eq!(file.ino(), fs::metadata(data.join("same")).unwrap().ino());
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(xattr::get(data.join("sub"), "trusted.note").unwrap().unwrap(), b"v");
        let top = fs::metadata(&data).unwrap();
        assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (33, 34, 0o2770));
        assert_eq!(file.mtime(), fs::metadata(source.join("same")).unwrap().mtime());

        fs::remove_file(data.join("same")).unwrap();
        store.copy_up("vol", &root, Path::new("/srv/data")).await.unwrap();
        assert!(!data.join("same").exists(), "a volume with content is left alone");
    });
}

#[test]
fn half_made_volumes_are_gone_at_the_next_start() {
    in_a_world(async |dir, store| {
        store.create(named("kept")).await.unwrap();
        fs::create_dir_all(dir.join("volumes/.new-1/_data")).unwrap();
        fs::create_dir_all(dir.join("volumes/.gone-1/_data/x")).unwrap();
        let store = VolumeStore::open(dir.join("volumes")).await.unwrap();
        assert_eq!(fs::read_dir(dir.join("volumes")).unwrap().count(), 1);
        assert_eq!(store.list(&Filters::default(), unused).await.unwrap().volumes.len(), 1);
    });
}

#[test]
fn requests_for_one_name_at_once_make_one_volume() {
    in_a_world(async |_, store| {
        let requests: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.create(named("same")).await.unwrap().1 })
            })
            .collect();
        let mut made = 0;
        for request in requests {
            made += usize::from(request.await.unwrap());
        }
        assert_eq!(made, 1);
        assert_eq!(store.list(&Filters::default(), unused).await.unwrap().volumes.len(), 1);
    });
}
