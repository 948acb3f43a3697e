//! A store in a mount namespace and a tmpfs of its own: whatever a test leaves, the kernel takes away with them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::future::Future;
use std::path::PathBuf;

use engine_images::{ArchiveStream, Digest, ImageStore, ImportOptions, Progress};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio_stream::StreamExt;

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) store: ImageStore,
}

impl World {
    pub(crate) async fn reopen(&mut self) {
        self.store = ImageStore::open(self.dir.join("images"), self.dir.join("containers")).await.unwrap();
    }

    pub(crate) async fn import(&self, tar: Vec<u8>, reference: &str) -> Digest {
        let options = ImportOptions { reference: Some(reference.to_owned()), ..ImportOptions::default() };
        self.store.import(std::io::Cursor::new(tar), options, Progress::none()).await.unwrap()
    }

    /// All files below the store, relative, besides the catalog.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.dir.join("images")];
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    waiting.push(path);
                } else if !path.ends_with("catalog.json") {
                    found.push(path.strip_prefix(&self.dir).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    pub(crate) fn mounts(&self) -> usize {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(self.dir.to_str().unwrap())).count() - 1
    }
}

pub(crate) fn in_a_world<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send) {
    let dir = tempfile::TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256m")).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (images, containers) = (dir.path().join("images"), dir.path().join("containers"));
                let store = ImageStore::open(images, containers).await.unwrap();
                test(World { dir: dir.path().to_owned(), store }).await;
            });
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A tar of files; a content of `None` is a directory.
pub(crate) fn tar(files: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.map_or(0, |c| c.len() as u64));
        header.set_entry_type(if content.is_some() {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        });
        builder.append_data(&mut header, name, content.unwrap_or_default()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) async fn bytes(mut stream: ArchiveStream) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(chunk) = stream.next().await {
        out.extend_from_slice(&chunk.unwrap());
    }
    out
}

/// A docker-archive of one image with these layers.
pub(crate) fn docker_archive(layers: &[Vec<u8>], names: &[&str]) -> Vec<u8> {
    let plain = |layer: &Vec<u8>| zstd::decode_all(layer.as_slice()).unwrap_or_else(|_| layer.clone());
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(&plain(layer)).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": null, "Hostname": "kept"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "created": "2020-01-01T00:00:00Z",
        "history": layers.iter().map(|_| serde_json::json!({"created_by": "step"})).collect::<Vec<_>>(),
    });
    let config = serde_json::to_vec(&config).unwrap();
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let names_in_tar: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": config_name, "RepoTags": names, "Layers": names_in_tar}]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut files: Vec<(&str, Option<&[u8]>)> =
        vec![(&config_name, Some(&config)), ("manifest.json", Some(&manifest))];
    for (name, layer) in names_in_tar.iter().zip(layers) {
        files.push((name, Some(layer)));
    }
    tar(&files)
}
