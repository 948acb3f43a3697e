//! Root filesystems of containers, on real overlay mounts.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use engine_images::wire::ChangeKind;
use engine_images::{CommitOptions, ImageConfig, Progress, RemoveOptions};
use libnetwork_model::{ErrorKind, HasKind};
use support::{bytes, docker_archive, in_a_world, tar};

fn base() -> Vec<u8> {
    tar(&[
        ("./", None),
        ("etc", None),
        ("etc/passwd", Some(b"root")),
        ("etc/hosts", Some(b"image")),
        ("var", None),
        ("var/log", None),
        ("var/log/old", Some(b"123")),
        ("opt", None),
        ("srv", None),
        ("bin", None),
        ("bin/tool", Some(b"tool")),
    ])
}

#[test]
fn a_container_sees_its_image_and_keeps_what_it_writes() {
    in_a_world(async |mut world| {
        let image = world.import(base(), "base").await;
        let rootfs = world.store.prepare("c1", image).await.unwrap();
        assert_eq!(world.store.prepare("c1", image).await.unwrap(), rootfs);
        world.store.mount("c1").await.unwrap();
        world.store.mount("c1").await.unwrap();
        assert_eq!(world.mounts(), 1);
        let root = &rootfs.merged;
        assert_eq!(fs::read(root.join("etc/hosts")).unwrap(), b"image");
        assert!(root.join(".dockerenv").exists() && root.join("dev/shm").is_dir());
        assert_eq!(world.store.diff("c1").await.unwrap(), []);
        fs::write(root.join("etc/new"), b"12345").unwrap();
        // An engine that starts anew finds it mounted.
        world.reopen().await;
        world.store.mount("c1").await.unwrap();
        assert_eq!(world.mounts(), 1);
        let size = world.store.rootfs_size("c1").await.unwrap();
        assert_eq!((size.rw, size.root_fs), (5, 5 + 16));
        world.store.unmount("c1").await.unwrap();
        world.store.unmount("c1").await.unwrap();
        world.store.settle().await.unwrap();
        assert!(!root.join("etc/new").exists());
        world.store.mount("c1").await.unwrap();
        assert_eq!(fs::read(root.join("etc/new")).unwrap(), b"12345");
        let held = fs::File::open(root.join("etc/new")).unwrap();
        world.store.remove_rootfs("c1").await.unwrap();
        world.store.remove_rootfs("c1").await.unwrap();
        world.store.settle().await.unwrap();
        drop(held);
        assert_eq!(world.mounts(), 0);
        assert_eq!(fs::read_dir(world.dir.join("images/tmp")).unwrap().count(), 0);
        assert!(!world.dir.join("containers/c1/rootfs").exists());
        assert_eq!(world.store.mount("c1").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(world.store.mount("../images").await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn diff_lists_what_changed() {
    in_a_world(async |world| {
        let image = world.import(base(), "base").await;
        let rootfs = world.store.prepare("c", image).await.unwrap();
        world.store.mount("c").await.unwrap();
        let root = &rootfs.merged;
        fs::write(root.join("etc/passwd"), b"changed").unwrap();
        fs::remove_file(root.join("bin/tool")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
        fs::write(root.join("new/file"), b"").unwrap();
        fs::remove_dir_all(root.join("var/log")).unwrap();
        fs::create_dir(root.join("var/log")).unwrap();
        fs::write(root.join("var/log/fresh"), b"").unwrap();
        fs::write(root.join("srv/comes"), b"").unwrap();
        fs::remove_file(root.join("srv/comes")).unwrap();
        fs::set_permissions(root.join("opt"), fs::Permissions::from_mode(0o700)).unwrap();
        let changes = world.store.diff("c").await.unwrap();
        let shown: Vec<String> = (changes.iter())
            .map(|change| {
                let kind = match change.kind {
                    ChangeKind::Modified => 'C',
                    ChangeKind::Added => 'A',
                    ChangeKind::Deleted => 'D',
                };
                format!("{kind} {}", change.path)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "C /bin",
                "D /bin/tool",
                "C /etc",
                "C /etc/passwd",
                "A /new",
                "A /new/file",
                "C /opt",
                "C /var",
                "C /var/log",
                "A /var/log/fresh",
                "D /var/log/old",
            ]
        );
        assert_eq!(
            serde_json::to_value(&changes[1]).unwrap(),
            serde_json::json!({"Path": "/bin/tool", "Kind": 2})
        );
    });
}

#[test]
fn commit_makes_an_image_that_shows_the_same() {
    in_a_world(async |world| {
        let image = world.import(base(), "base").await;
        let rootfs = world.store.prepare("c", image).await.unwrap();
        world.store.mount("c").await.unwrap();
        fs::remove_file(rootfs.merged.join("bin/tool")).unwrap();
        fs::remove_dir_all(rootfs.merged.join("var/log")).unwrap();
        fs::create_dir(rootfs.merged.join("var/log")).unwrap();
        fs::write(rootfs.merged.join("etc/made"), b"made").unwrap();
        let options = CommitOptions {
            reference: Some("child".to_owned()),
            config: ImageConfig { cmd: Some(vec!["run".to_owned()]), ..ImageConfig::default() },
            changes: vec!["ENV X=1".to_owned()],
            comment: "why".to_owned(),
            created_by: "sh -c x".to_owned(),
            ..CommitOptions::default()
        };
        let child = world.store.commit("c", options).await.unwrap();
        let inspect = world.store.inspect("child").await.unwrap();
        assert_eq!((inspect.parent.as_str(), inspect.root_fs.layers.len()), (image.to_string().as_str(), 2));
        assert_eq!((inspect.comment.as_str(), inspect.config.env), ("why", vec!["X=1".to_owned()]));
        let history = world.store.history("child").await.unwrap();
        assert_eq!((history[0].created_by.as_str(), history[0].size), ("sh -c x", 4));
        assert_eq!(history[1].id, image.to_string());
        let error = world.store.remove("base", RemoveOptions::default(), &[]).await;
        assert!(error.is_ok(), "a name goes even where the image has to stay");
        let error =
            world.store.remove(&image.hex(), RemoveOptions { force: true, no_prune: false }, &[]).await;
        assert!(
            error.unwrap_err().to_string().contains("(cannot be forced) - image has dependent child images")
        );

        let second = world.store.prepare("d", child).await.unwrap();
        world.store.mount("d").await.unwrap();
        assert!(!second.merged.join("bin/tool").exists());
        assert_eq!(fs::read(second.merged.join("etc/made")).unwrap(), b"made");
        assert_eq!(fs::read_dir(second.merged.join("var/log")).unwrap().count(), 0);

        for id in ["c", "d"] {
            world.store.remove_rootfs(id).await.unwrap();
        }
        world.store.settle().await.unwrap();
        world.store.remove("child", RemoveOptions::default(), &[]).await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
    });
}

#[test]
fn an_export_is_the_same_mounted_or_not() {
    in_a_world(async |world| {
        let image = world.import(base(), "base").await;
        let rootfs = world.store.prepare("c", image).await.unwrap();
        world.store.mount("c").await.unwrap();
        fs::write(rootfs.merged.join("etc/made"), b"made").unwrap();
        fs::remove_file(rootfs.merged.join("bin/tool")).unwrap();
        let mounted = bytes(world.store.export("c").await.unwrap()).await;
        world.store.unmount("c").await.unwrap();
        world.store.settle().await.unwrap();
        let unmounted = bytes(world.store.export("c").await.unwrap()).await;
        assert!(mounted == unmounted);
        while world.mounts() > 0 {
            tokio::task::yield_now().await;
        }
        // Given up half way.
        drop(world.store.export("c").await.unwrap());
        while world.mounts() > 0 {
            tokio::task::yield_now().await;
        }
        let copy = world.import(mounted, "copy").await;
        let rootfs = world.store.prepare("d", copy).await.unwrap();
        world.store.mount("d").await.unwrap();
        assert_eq!(fs::read(rootfs.merged.join("etc/made")).unwrap(), b"made");
        assert!(!rootfs.merged.join("bin/tool").exists());
    });
}

#[test]
fn an_export_is_whole_when_the_container_and_its_image_are_removed_meanwhile() {
    in_a_world(async |world| {
        for mounted in [true, false] {
            let image = world.import(base(), "base").await;
            let rootfs = world.store.prepare("c", image).await.unwrap();
            world.store.mount("c").await.unwrap();
            // More than fits on the way out, so that the reader is known to be in the middle.
            fs::write(rootfs.merged.join("etc/made"), vec![7; 4 << 20]).unwrap();
            fs::write(rootfs.merged.join("last"), b"last").unwrap();
            let whole = bytes(world.store.export("c").await.unwrap()).await;
            if !mounted {
                world.store.unmount("c").await.unwrap();
                world.store.settle().await.unwrap();
            }
            let stream = world.store.export("c").await.unwrap();
            world.store.remove_rootfs("c").await.unwrap();
            world.store.remove("base", RemoveOptions::default(), &[]).await.unwrap();
            world.store.settle().await.unwrap();
            assert!(world.store.export("c").await.is_err(), "it can be found no more");
            assert!(bytes(stream).await == whole, "mounted: {mounted}");
            // Who read it last removes it.
            while world.mounts() > 0 || !world.files().is_empty() {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn a_hundred_and_twenty_layers_mount_and_layers_may_repeat() {
    in_a_world(async |world| {
        let mut layers: Vec<Vec<u8>> = (0..118)
            .map(|n| tar(&[("n", Some(n.to_string().as_bytes())), (&format!("f{n}"), Some(b"x"))]))
            .collect();
        layers.insert(60, tar(&[]));
        layers.push(tar(&[]));
        let archive = docker_archive(&layers, &["deep"]);
        let image = world.store.load(Cursor::new(archive), true, Progress::none()).await.unwrap()[0].id;
        let rootfs = world.store.prepare("c", image).await.unwrap();
        assert_eq!(rootfs.lower.len(), 1 + 119);
        world.store.mount("c").await.unwrap();
        assert_eq!(fs::read(rootfs.merged.join("n")).unwrap(), b"117");
        assert!(rootfs.merged.join("f0").exists());
    });
}

#[test]
fn layers_outlive_their_image_as_long_as_a_container_needs_them() {
    in_a_world(async |mut world| {
        let image = world.import(base(), "base").await;
        let rootfs = world.store.prepare("c", image).await.unwrap();
        world.store.remove("base", RemoveOptions { force: true, no_prune: false }, &[]).await.unwrap();
        world.reopen().await;
        world.store.mount("c").await.unwrap();
        assert_eq!(fs::read(rootfs.merged.join("bin/tool")).unwrap(), b"tool");
        world.store.remove_rootfs("c").await.unwrap();
        world.store.settle().await.unwrap();
        assert_eq!(world.files(), Vec::<String>::new());
    });
}

#[test]
fn the_root_directory_is_as_the_image_says() {
    in_a_world(async |world| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o1711);
        header.set_uid(3);
        header.set_gid(4);
        header.set_size(0);
        builder.append_data(&mut header, "./", std::io::empty()).unwrap();
        let layers = [builder.into_inner().unwrap(), tar(&[("x", Some(b""))])];
        let archive = docker_archive(&layers, &[]);
        let image = world.store.load(Cursor::new(archive), true, Progress::none()).await.unwrap()[0].id;
        let rootfs = world.store.prepare("c", image).await.unwrap();
        world.store.mount("c").await.unwrap();
        let root = fs::metadata(&rootfs.merged).unwrap();
        assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o1711, 3, 4));
    });
}

#[test]
fn a_removal_that_was_cut_off_is_finished_at_the_next_start() {
    in_a_world(async |mut world| {
        let image = world.import(base(), "base").await;
        world.store.prepare("c", image).await.unwrap();
        world.store.mount("c").await.unwrap();
        let away = world.dir.join("images/tmp/swept-x");
        fs::create_dir(&away).unwrap();
        fs::rename(world.dir.join("containers/c/rootfs"), away.join("rootfs")).unwrap();
        assert_eq!(world.mounts(), 1);
        world.reopen().await;
        assert_eq!((world.mounts(), away.exists()), (0, false));
        let again = world.store.prepare("c", image).await.unwrap();
        world.store.mount("c").await.unwrap();
        assert!(again.merged.join("bin/tool").exists());
    });
}

#[test]
fn many_containers_come_and_go_at_once() {
    in_a_world(async |world| {
        let image = world.import(base(), "base").await;
        let lives: Vec<_> = (0..24)
            .map(|n| {
                let store = world.store.clone();
                tokio::spawn(async move {
                    let id = format!("c{n}");
                    for _ in 0..3 {
                        store.prepare(&id, image).await.unwrap();
                        let rootfs = store.mount(&id).await.unwrap();
                        fs::write(rootfs.merged.join("etc/own"), &id).unwrap();
                        assert_eq!(fs::read_to_string(rootfs.upper.join("etc/own")).unwrap(), id);
                        store.unmount(&id).await.unwrap();
                        store.mount(&id).await.unwrap();
                        assert_eq!(fs::read_to_string(rootfs.merged.join("etc/own")).unwrap(), id);
                        store.remove_rootfs(&id).await.unwrap();
                    }
                })
            })
            .collect();
        for life in lives {
            life.await.unwrap();
        }
        world.store.settle().await.unwrap();
        assert_eq!(world.mounts(), 0);
        assert_eq!(fs::read_dir(world.dir.join("images/tmp")).unwrap().count(), 0);
    });
}
