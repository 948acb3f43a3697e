//! Images, by the docker CLI.

use integration_testkit::{Host, rootfs_tar, run};

#[test]
fn an_imported_image_is_listed_inspected_tagged_and_removed() {
    let host = Host::up();
    let finished = host.docker_with_input(
        &[
            "import",
            "-c",
            "CMD [\"echo\", \"by default\"]",
            "-c",
            "ENV A=b",
            "-m",
            "made here",
            "-",
            "base:1",
        ],
        rootfs_tar(),
    );
    let id = finished.ok().lines().last().unwrap().to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    let image = host.inspect("base:1");
    assert_eq!(image["Id"], id.as_str());
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["echo", "by default"]));
    assert_eq!(host.d("run --rm base:1"), "by default");
    assert!(host.d("history base:1 --format {{.Comment}}").contains("made here"));
    host.d("tag base:1 other/name:2");
    assert_eq!(host.d("images --format {{.Repository}}:{{.Tag}}").lines().count(), 2);
    let untagged = host.d("rmi base:1");
    assert!(untagged.contains("Untagged: base:1") && !untagged.contains("Deleted"), "{untagged}");
    assert!(host.d("rmi other/name:2").contains("Deleted: sha256:"));
    assert_eq!(host.d("images -q"), "");
    assert!(host.docker(&["rmi", "base:1"]).err().contains("No such image: base:1"));
}

#[test]
fn what_is_saved_loads_elsewhere_as_the_same_image() {
    let (here, there) = (Host::with_image(), Host::up());
    here.d("tag box again:v1");
    let archive = here.scratch().join("image.tar");
    let path = archive.display().to_string();
    here.docker(&["save", "-o", &path, "box", "again:v1"]).ok();
    let loaded = there.docker(&["load", "-i", &path]).ok();
    assert!(
        loaded.contains("Loaded image: box:latest") && loaded.contains("Loaded image: again:v1"),
        "{loaded}"
    );
    assert_eq!(there.inspect("box")["Id"], here.inspect("box")["Id"]);
    assert_eq!(there.d("run --rm again:v1 echo loaded"), "loaded");
}

#[test]
fn an_image_in_use_is_not_removed() {
    let host = Host::with_image();
    host.d("run -d --name cc box sleep 1000");
    let refused = host.docker(&["rmi", "box"]).err();
    assert!(refused.contains("conflict"), "{refused}");
    host.d("rm -f cc");
    host.d("rmi box");
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let host = Host::with_image();
    let archive = host.scratch().join("image.tar");
    host.docker(&["save", "-o", archive.to_str().unwrap(), "box"]).ok();
    host.d("rmi box");
    let whole = std::fs::read(&archive).unwrap();
    host.docker_with_input(&["load"], &whole[..whole.len() / 2]).err();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    host.docker_with_input(&["load"], &flipped).err();
    assert_eq!(host.d("images -aq"), "");
    host.docker_with_input(&["load"], &whole).ok();
    assert_eq!(host.d("run --rm box echo whole"), "whole");
}

#[test]
fn layers_of_a_commit_are_shared_with_its_parent() {
    let host = Host::with_image();
    host.docker(&["run", "--name", "cc", "box", "sh", "-c", "echo new > /new; rm /www/index.html"]).ok();
    let changes = host.d("diff cc");
    assert!(changes.contains("A /new") && changes.contains("D /www/index.html"), "{changes}");
    host.d("commit cc child");
    let layers = |name: &str| host.inspect(name)["RootFS"]["Layers"].as_array().unwrap().clone();
    let (parent, child) = (layers("box"), layers("child"));
    assert_eq!(child[..parent.len()], parent[..]);
    assert_eq!(child.len(), parent.len() + 1);
    assert_eq!(host.d("run --rm child cat /new"), "new");
    host.docker(&["run", "--rm", "child", "cat", "/www/index.html"]).err();
}

#[test]
fn files_are_copied_in_and_out() {
    let host = Host::with_image();
    host.d("create --name cc box true");
    let file = host.scratch().join("file");
    std::fs::write(&file, "copied\n").unwrap();
    host.docker(&["cp", file.to_str().unwrap(), "cc:/etc/file"]).ok();
    let back = host.scratch().join("back");
    host.docker(&["cp", "cc:/etc/file", back.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "copied\n");
    let mut list = std::process::Command::new("sh");
    list.args(["-c", "tar -t"]);
    let exported = host.scratch().join("export.tar");
    host.docker(&["export", "-o", exported.to_str().unwrap(), "cc"]).ok();
    assert!(run(list, &std::fs::read(exported).unwrap()).ok().contains("etc/file"));
}

#[test]
fn system_df_version_and_info_answer() {
    let host = Host::with_image();
    assert!(host.d("system df").contains("Images"));
    assert!(host.d("version").contains("Server"));
    let info = host.d("info");
    for part in ["Server Version", "ebpf", "Runtimes:", "Images: 1"] {
        assert!(info.contains(part), "no {part:?} in {info}");
    }
}
