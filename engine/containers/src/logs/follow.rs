//! Following a log while it is written.

use std::{fs::File, io, io::Read, os::unix::fs::MetadataExt, path::Path};

use tokio::sync::watch;

use super::{
    Sender,
    files::Position,
    record::{Verdict, judge},
    watch::Watcher,
};
use crate::{Error, LogOptions, container::Live};

/// Shows what is appended until the container has ended and its last line was shown, or the reader has gone.
///
/// Reads are done in this task: what has just been written is in the page cache.
pub(super) async fn follow(
    path: &Path,
    mut position: Position,
    options: &LogOptions,
    mut watcher: Watcher,
    mut watch: watch::Receiver<Live>,
    sender: Sender,
) {
    let until = async {
        match options.until.map(|until| until.duration_since(std::time::SystemTime::now())) {
            None => std::future::pending().await,
            Some(left) => tokio::time::sleep(left.unwrap_or_default()).await,
        }
    };
    tokio::pin!(until);
    loop {
        // Asked before reading: all that an ended container wrote is in the file by the time it has ended.
        let runs = watch.borrow_and_update().state.is_running();
        match drain(path, &mut position, options, &sender).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // Nobody listens any more: nobody to tell.
                let _ =
                    sender.send(Err(Error::Io { operation: "read", path: path.into(), source: error })).await;
                return;
            }
        }
        if !runs {
            return;
        }
        tokio::select! {
            changed = watcher.changed() => if changed.is_err() { return },
            changed = watch.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = &mut until => return,
        }
    }
}

/// Shows all there is, across a rotation too. False when nothing more is wanted.
async fn drain(
    path: &Path,
    position: &mut Position,
    options: &LogOptions,
    sender: &Sender,
) -> io::Result<bool> {
    loop {
        // Looked at before the old file is read to its end: a rotation in between is seen the next time.
        let current = std::fs::metadata(path).ok();
        if let Some(file) = &mut position.file
            && !read_on(file, &mut position.partial, options, sender).await?
        {
            return Ok(false);
        }
        let Some(current) = current else { return Ok(true) };
        let same = match &position.file {
            Some(file) => file.metadata()?.ino() == current.ino(),
            None => false,
        };
        if same {
            return Ok(true);
        }
        position.file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        position.partial.clear();
    }
}

async fn read_on(
    file: &mut File,
    partial: &mut Vec<u8>,
    options: &LogOptions,
    sender: &Sender,
) -> io::Result<bool> {
    let mut block = vec![0; 32 << 10];
    loop {
        let count = match file.read(&mut block) {
            Ok(0) => return Ok(true),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut rest = &block[..count];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            partial.extend_from_slice(&rest[..=end]);
            rest = &rest[end + 1..];
            let verdict = judge(partial, options);
            partial.clear();
            match verdict {
                Verdict::Show(record) => {
                    if sender.send(Ok(record)).await.is_err() {
                        return Ok(false);
                    }
                }
                Verdict::Skip => {}
                Verdict::End => return Ok(false),
            }
        }
        partial.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, time::Duration};

    use tokio::sync::mpsc;

    use super::{
        super::{files::read_backlog, watch::Watchers},
        *,
    };
    use crate::{
        config::Status,
        container::Container,
        record::{Config, RunState},
    };

    fn running(dir: &Path) -> Container {
        let config: Config = serde_json::from_value(serde_json::json!({
            "revision": 1, "id": "x", "name": "x", "created": 1, "image": format!("sha256:{}", "0".repeat(64)),
            "config": {}, "host": {}, "networks": {}, "mounts": [],
        }))
        .unwrap();
        Container::new(dir.to_owned(), config, RunState { status: Status::Running, ..RunState::default() })
    }

    fn line(text: &str) -> String {
        format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"2026-11-21T19:47:26Z\"}}\n")
    }

    #[tokio::test]
    async fn following_crosses_a_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let container = running(dir.path());
        fs::write(&path, line("a")).unwrap();
        let options = LogOptions { stdout: true, tail: Some(0), ..LogOptions::default() };
        let watcher = Watchers::default().watch(dir.path()).unwrap();
        let position = read_backlog(&path, &options, |_| true).unwrap().unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        let (watch, log) = (container.watch(), path.clone());
        let task =
            tokio::spawn(async move { follow(&log, position, &options, watcher, watch, sender).await });
        let next = async |receiver: &mut mpsc::Receiver<crate::Result<crate::LogRecord>>| {
            let record = tokio::time::timeout(Duration::from_secs(120), receiver.recv()).await.unwrap();
            record.map(|record| String::from_utf8(record.unwrap().data.to_vec()).unwrap())
        };
        // Half a line is not shown before its end.
        let whole = line("b");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&whole.as_bytes()[..10]).unwrap();
        file.write_all(&whole.as_bytes()[10..]).unwrap();
        assert_eq!(next(&mut receiver).await.unwrap(), "b");
        fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        fs::write(&path, line("c")).unwrap();
        assert_eq!(next(&mut receiver).await.unwrap(), "c");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line("last").as_bytes()).unwrap();
        container.change(|live| live.state.status = Status::Exited);
        assert_eq!(next(&mut receiver).await.unwrap(), "last");
        assert_eq!(next(&mut receiver).await, None);
        task.await.unwrap();
    }
}
