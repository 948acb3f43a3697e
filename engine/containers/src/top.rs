//! `docker top`: the container's processes, as ps(1) would show them.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    Containers, Error, Result,
    config::{Status, Top},
    moment::Moment,
    service::blocking,
};

impl Containers {
    /// `docker top`; `ps_args` are ps(1)'s, `-ef` when empty.
    pub async fn top(&self, reference: &str, ps_args: &str) -> Result<Top> {
        let container = self.inner.find(reference)?;
        if container.status() == Status::Restarting {
            return Err(Error::Restarting(container.id.clone()));
        }
        let pids = self.inner.live_task(&container)?.pids().await?;
        let top = match ps_args {
            "" | "-ef" => blocking(move || Ok(full_format(&pids))).await,
            args => with_ps(args, &pids).await,
        }?;
        self.inner.emit(&container, "top", &[]);
        Ok(top)
    }
}

/// Other formats are left to the host's ps.
async fn with_ps(args: &str, pids: &[i32]) -> Result<Top> {
    let failed = |error: std::io::Error| Error::Invalid(format!("error running ps: {error}"));
    let output =
        tokio::process::Command::new("ps").args(args.split_whitespace()).output().await.map_err(failed)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Invalid(format!(
            "error running ps: {}",
            complaint.lines().next().unwrap_or_default()
        )));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The lines of ps's output that are about these processes.
fn select(output: &str, pids: &[i32]) -> Result<Top> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    };
    let processes = lines.filter_map(|line| {
        let fields = fields(line, titles.len());
        let pid = fields.get(column)?.parse::<i32>().ok()?;
        pids.contains(&pid).then_some(fields)
    });
    Ok(Top { processes: processes.collect(), titles })
}

/// A line's fields; the last one is the rest, with its blanks.
fn fields(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut fields = Vec::with_capacity(count);
    while fields.len() + 1 < count {
        let Some((field, tail)) = rest.split_once(char::is_whitespace) else { break };
        fields.push(field.to_owned());
        rest = tail.trim_start();
    }
    fields.push(rest.trim_end().to_owned());
    fields
}

const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// `ps -ef`, without needing a ps. A process that has just ended is left out. Blocking.
fn full_format(pids: &[i32]) -> Top {
    let users = users();
    let boot = boot_time();
    // SAFETY: sysconf has no preconditions.
    let ticks = u64::try_from(unsafe { nix::libc::sysconf(nix::libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    let processes = pids.iter().filter_map(|pid| process(*pid, &users, boot, ticks)).collect();
    Top { processes, titles: TITLES.map(str::to_owned).to_vec() }
}

fn process(pid: i32, users: &BTreeMap<u32, String>, boot: u64, ticks: u64) -> Option<Vec<String>> {
    let dir = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&dir).ok()?);
    // The name in parentheses may itself hold blanks and parentheses.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // Counted from the state, which is the third field in proc(5).
    let number =
        |index: usize| fields.get(index - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let parent = number(4);
    let terminal = number(7);
    let cpu = (number(14) + number(15)) / ticks;
    let started = boot + number(22) / ticks;
    let now = u64::try_from(Moment::now().seconds()).unwrap_or_default();
    let age = now.saturating_sub(started).max(1);
    let command = fs::read(dir.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    Some(vec![
        users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        pid.to_string(),
        parent.to_string(),
        (cpu * 100 / age).min(99).to_string(),
        clock(started, age),
        tty(terminal),
        format!("{:02}:{:02}:{:02}", cpu / 3600, cpu / 60 % 60, cpu % 60),
        if command.is_empty() { format!("[{name}]") } else { command },
    ])
}

/// When a process started: the time of day, or the date when that was not within a day. UTC.
fn clock(started: u64, age: u64) -> String {
    let text = Moment(started * 1_000_000_000).to_string();
    if age < 24 * 3600 { text.get(11..16) } else { text.get(5..10) }.unwrap_or("?").to_owned()
}

/// A device number as /dev names it: container terminals are pseudo terminals.
fn tty(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match (device, major) {
        (0, _) => "?".to_owned(),
        (_, 136..=143) => format!("pts/{minor}"),
        (_, 4) => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

/// Docker shows the host's names, since it runs the host's ps.
fn users() -> BTreeMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().rev().filter_map(entry).collect()
}

/// Seconds since 1970.
fn boot_time() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_shown_as_ps_would() {
        let me = std::process::id() as i32;
        let top = full_format(&[me, -1]);
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0].len(), TITLES.len());
        assert_eq!(top.processes[0][1], me.to_string());
        assert!(top.processes[0][7].contains("containers"));
    }

    #[test]
    fn lines_of_ps_are_selected_by_pid_and_keep_their_blanks() {
        let output = "USER  PID COMMAND\nroot    1 /sbin/init  now\nroot   42 sh -c  x\n";
        let top = select(output, &[42]).unwrap();
        assert_eq!(top.processes, [["root", "42", "sh -c  x"]]);
        assert!(select("A B\n1 2\n", &[2]).is_err());
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(tty(0), "?");
        assert_eq!(tty(136 << 8 | 3), "pts/3");
    }
}
