//! The container's log, in the format of Docker's `json-file` driver.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use engine_protocol::LogFile;

use crate::clock;

/// A line longer than this is split, as Docker splits it. Bytes.
const LONGEST_LINE: usize = 16 << 10;

/// The stream that a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// Writes lines, and keeps the unfinished one of each stream.
pub(crate) struct Log {
    config: LogFile,
    file: Option<File>,
    size: u64,
    unfinished: [Vec<u8>; 2],
    /// Reused for each write, so that one read of output is one write of log.
    scratch: Vec<u8>,
}

impl Log {
    pub(crate) fn open(config: LogFile) -> io::Result<Self> {
        let mut log =
            Self { config, file: None, size: 0, unfinished: [Vec::new(), Vec::new()], scratch: Vec::new() };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file at the configured path, made when absent.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.config.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Takes in output. Complete lines are written at once. A failing disk loses log, never output: the error is for
    /// the shim's own log.
    pub(crate) fn write(&mut self, source: Source, mut data: &[u8]) -> io::Result<()> {
        let now = clock::now();
        while !data.is_empty() {
            let unfinished = &mut self.unfinished[source as usize];
            let room = LONGEST_LINE - unfinished.len();
            let end = data[..data.len().min(room)].iter().position(|&byte| byte == b'\n');
            let take = end.map_or(data.len().min(room), |at| at + 1);
            let complete = end.is_some() || unfinished.len() + take == LONGEST_LINE;
            if complete && unfinished.is_empty() {
                put_line(&mut self.scratch, source, &data[..take], now);
            } else {
                unfinished.extend_from_slice(&data[..take]);
                if complete {
                    put_line(&mut self.scratch, source, unfinished, now);
                    unfinished.clear();
                }
            }
            data = &data[take..];
            if self.scratch.len() > 64 << 10 {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Writes what is unfinished: the stream has ended.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let now = clock::now();
        for source in [Source::Stdout, Source::Stderr] {
            let unfinished = std::mem::take(&mut self.unfinished[source as usize]);
            if !unfinished.is_empty() {
                put_line(&mut self.scratch, source, &unfinished, now);
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.scratch.is_empty() {
            return Ok(());
        }
        if self.config.max_size.is_some_and(|max| self.size >= max) {
            self.rotate()?;
        }
        let result = match &mut self.file {
            Some(file) => file.write_all(&self.scratch),
            None => Ok(()),
        };
        self.size += self.scratch.len() as u64;
        self.scratch.clear();
        // A burst must not stay in memory for the container's lifetime.
        self.scratch.shrink_to(4 << 10);
        result
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.config.max_files.max(1)).rev() {
            let older = numbered(&self.config.path, number);
            let newer =
                if number == 1 { self.config.path.clone() } else { numbered(&self.config.path, number - 1) };
            match fs::rename(&newer, &older) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.config.max_files <= 1
            && let Some(file) = &self.file
        {
            file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        self.reopen()
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn put_line(out: &mut Vec<u8>, source: Source, line: &[u8], nanos: u64) {
    out.extend_from_slice(b"{\"log\":\"");
    put_escaped(out, line);
    out.extend_from_slice(match source {
        Source::Stdout => b"\",\"stream\":\"stdout\",\"time\":\"",
        Source::Stderr => b"\",\"stream\":\"stderr\",\"time\":\"",
    });
    clock::put_rfc3339(out, nanos);
    out.extend_from_slice(b"\"}\n");
}

/// As Go's encoder writes a string: `<`, `>`, `&` and the two line separators escaped, invalid UTF-8 replaced.
fn put_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{2028}' => out.extend_from_slice(b"\\u2028"),
                '\u{2029}' => out.extend_from_slice(b"\\u2029"),
                '\0'..='\x1f' | '<' | '>' | '&' => {
                    let _ = write!(out, "\\u{:04x}", character as u32);
                }
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(max_size: Option<u64>, max_files: u32) -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.log");
        let log = Log::open(LogFile { path, max_size, max_files }).unwrap();
        (directory, log)
    }

    fn lines(path: &Path) -> Vec<(String, String)> {
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let field = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap().to_owned();
        text.lines().map(parse).map(|v| (field(&v, "stream"), field(&v, "log"))).collect()
    }

    #[test]
    fn a_line_is_one_entry_however_it_was_written() {
        let (directory, mut log) = log(None, 1);
        log.write(Source::Stdout, b"on").unwrap();
        log.write(Source::Stderr, b"err\n").unwrap();
        log.write(Source::Stdout, b"e\ntwo <\xff>\x01\n\nrest").unwrap();
        log.finish().unwrap();
        let expected = [("stderr", "err\n"), ("stdout", "one\n"), ("stdout", "two <\u{fffd}>\u{1}\n")];
        let expected: Vec<_> = expected.into_iter().chain([("stdout", "\n"), ("stdout", "rest")]).collect();
        let found = lines(&directory.path().join("c.log"));
        assert_eq!(found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_long_line_is_split_at_16_kib() {
        let (directory, mut log) = log(None, 1);
        let mut line = vec![b'x'; LONGEST_LINE + 10];
        line.push(b'\n');
        log.write(Source::Stdout, &line).unwrap();
        let found = lines(&directory.path().join("c.log"));
        assert_eq!(found.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [LONGEST_LINE, 11]);
        assert!(!found[0].1.ends_with('\n'));
    }

    #[test]
    fn old_files_go_when_there_are_too_many() {
        let (directory, mut log) = log(Some(100), 3);
        for number in 0..20 {
            log.write(Source::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c.log", "c.log.1", "c.log.2"]);
        assert_eq!(lines(&directory.path().join("c.log")).last().unwrap().1, "line 19\n");
    }

    #[test]
    fn a_single_file_starts_over() {
        let (directory, mut log) = log(Some(100), 1);
        for number in 0..21 {
            log.write(Source::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        }
        let found = lines(&directory.path().join("c.log"));
        assert!(found.len() < 5, "{found:?}");
        assert_eq!(found.last().unwrap().1, "line 20\n");
    }
}
