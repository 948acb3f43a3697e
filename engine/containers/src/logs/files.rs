//! The files of a log: the current one, and those that were rotated away (`x.1` is the newest of them).

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::record::{Verdict, judge};
use crate::{Error, LogOptions, LogRecord, Result};

const BLOCK: usize = 64 << 10;

/// Where reading stopped.
#[derive(Debug)]
pub(super) struct Position {
    /// The current file; none when there is none yet.
    pub(super) file: Option<File>,
    /// The beginning of a line that was not complete.
    pub(super) partial: Vec<u8>,
}

/// Reads what is there, oldest first, beginning where `tail` says. None when nothing more is wanted. Blocking.
pub(super) fn read_backlog(
    path: &Path,
    options: &LogOptions,
    mut show: impl FnMut(Result<LogRecord>) -> bool,
) -> Result<Option<Position>> {
    let mut position = Position { file: None, partial: Vec::new() };
    for (file_path, start) in starts(path, options.tail).map_err(Error::io("read", path))? {
        let read = |error| Error::Io { operation: "read", path: file_path.clone(), source: error };
        let mut file = File::open(&file_path).map_err(read)?;
        file.seek(SeekFrom::Start(start)).map_err(read)?;
        let mut reader = BufReader::with_capacity(BLOCK, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = reader.read_until(b'\n', &mut line).map_err(read)?;
            if count == 0 {
                break;
            }
            if line.last() != Some(&b'\n') {
                position.partial = std::mem::take(&mut line);
                break;
            }
            match judge(&line, options) {
                Verdict::Show(record) => {
                    if !show(Ok(record)) {
                        return Ok(None);
                    }
                }
                Verdict::Skip => {}
                Verdict::End => return Ok(None),
            }
        }
        position.file = Some(reader.into_inner());
    }
    Ok(Some(position))
}

/// The files, oldest first, with where to begin in each.
fn starts(path: &Path, tail: Option<usize>) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut all = Vec::new();
    let mut current = path.to_owned();
    let mut missing = tail.unwrap_or(usize::MAX);
    for number in 1.. {
        match File::open(&current) {
            Ok(mut file) => {
                let start = match tail {
                    None => 0,
                    Some(_) => {
                        let (start, lines) = tail_start(&mut file, missing)?;
                        missing -= lines;
                        start
                    }
                };
                all.push((current, start));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 1 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
        if tail.is_some() && missing == 0 {
            break;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        current = name.into();
    }
    all.reverse();
    Ok(all)
}

/// Where the last `wanted` lines begin, and how many of them there are.
fn tail_start(file: &mut File, wanted: usize) -> io::Result<(u64, usize)> {
    let end = file.seek(SeekFrom::End(0))?;
    if wanted == 0 {
        return Ok((end, 0));
    }
    let mut block = vec![0; BLOCK];
    let mut position = end;
    let mut lines = 0;
    while position > 0 {
        let length = BLOCK.min(position as usize);
        position -= length as u64;
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut block[..length])?;
        for index in (0..length).rev() {
            let offset = position + index as u64;
            // A line's own end is not the beginning of another one.
            if block[index] == b'\n' && offset + 1 < end {
                lines += 1;
                if lines == wanted {
                    return Ok((offset + 1, wanted));
                }
            }
        }
    }
    // The first line has no end before it.
    Ok((0, if end > 0 { lines + 1 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(text: &str) -> String {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-21T19:47:26Z\"}}\n")
    }

    fn read(path: &Path, tail: Option<usize>) -> Vec<String> {
        let options = LogOptions { stdout: true, stderr: true, tail, ..LogOptions::default() };
        let mut seen = Vec::new();
        read_backlog(path, &options, |record| {
            seen.push(String::from_utf8(record.unwrap().data.to_vec()).unwrap().trim_end().to_owned());
            true
        })
        .unwrap();
        seen
    }

    #[test]
    fn the_tail_reaches_into_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(dir.path().join("x.log.2"), line("a") + &line("b")).unwrap();
        fs::write(dir.path().join("x.log.1"), line("c")).unwrap();
        fs::write(&path, line("d") + &line("e")).unwrap();
        assert_eq!(read(&path, None), ["a", "b", "c", "d", "e"]);
        assert_eq!(read(&path, Some(0)), [""; 0]);
        assert_eq!(read(&path, Some(1)), ["e"]);
        assert_eq!(read(&path, Some(2)), ["d", "e"]);
        assert_eq!(read(&path, Some(4)), ["b", "c", "d", "e"]);
        assert_eq!(read(&path, Some(99)), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_tail_of_long_lines_crosses_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let long = "x".repeat(BLOCK / 2);
        fs::write(&path, (0..9).map(|_| line(&long)).collect::<String>() + &line("last")).unwrap();
        assert_eq!(read(&path, Some(5)).len(), 5);
        assert_eq!(read(&path, Some(1)), ["last"]);
    }

    #[test]
    fn half_a_line_is_kept_for_later_and_a_missing_log_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert_eq!(read(&path, None), [""; 0]);
        fs::write(&path, line("a") + "{\"log\":\"ha").unwrap();
        let options = LogOptions { stdout: true, ..LogOptions::default() };
        let position = read_backlog(&path, &options, |_| true).unwrap().unwrap();
        assert_eq!(position.partial, b"{\"log\":\"ha");
    }
}
