//! `dockerd`: this program under Docker's name (a link) takes Docker's command line and configuration file, so that
//! units and scripts made for Docker start causeway unchanged.
//!
//! Causeway's own directories are `causeway` below Docker's data root and exec root: what Docker left there is not touched.

mod file;
mod logs;
mod runtimes;
mod settings;
mod values;

use std::{
    env, fs,
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Map, Value};

use self::{
    file::{ConfigError, Given},
    settings::{Kind, Meaning, SETTINGS},
};
use crate::{
    Outcome,
    paths::PathError,
    up::{
        self, Plan,
        listen::{self, ListenError},
    },
};

const CONFIG_FILE: &str = "/etc/docker/daemon.json";
/// Docker's port for TLS.
const TLS_PORT: u16 = 2376;
/// What SIGHUP does not change.
const FIXED: [&str; 5] = ["data-root", "exec-root", "group", "hosts", "pidfile"];
const HOST: &str = "unix:///var/run/docker.sock";
/// The first descriptor that sd_listen_fds(3) hands over.
const FIRST_PASSED_FD: RawFd = 3;

#[derive(Debug, thiserror::Error)]
enum DockerdError {
    #[error("process with PID {pid} is still running: remove {} if it is not dockerd", path.display())]
    Running { pid: i32, path: PathBuf },
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NoSockets,
}

/// Whether this program was started under Docker's name.
pub(crate) fn is_called() -> bool {
    let name = env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == "dockerd"))
}

pub(crate) fn run() -> Outcome {
    let matches = command().get_matches();
    let flags = flags(&matches)?;
    let named = flags.get("config-file").and_then(Value::as_str);
    let path = named.unwrap_or(CONFIG_FILE).to_owned();
    let named = named.is_some();
    let given = file::merge(flags.clone(), Path::new(&path), named)?;
    if is(&given, "validate") {
        println!("configuration OK");
        return Ok(());
    }
    for setting in SETTINGS {
        if let Some(why) = given.get(setting.name()).and_then(|value| setting.no_effect(value)) {
            eprintln!("dockerd: {} has no effect: {why}", setting.name());
        }
    }
    for line in runtimes::all(&given).1.into_iter().chain(containers(&given).1) {
        eprintln!("dockerd: {line}");
    }
    let mut plan = plan(&given)?;
    if list(&given, "hosts").iter().any(|host| host.starts_with("fd://")) {
        plan.inherited = inherited();
        if plan.inherited.is_empty() {
            return Err(DockerdError::NoSockets.into());
        }
    }
    plan.ready = Box::new(tell_systemd);
    let mut before = given.clone();
    plan.reread = Some(Box::new(move || reread(&flags, Path::new(&path), named, &mut before)));
    let _pid = PidFile::write(Path::new(text(&given, "pidfile").unwrap_or("/var/run/docker.pid")))?;
    up::start(plan)
}

/// What the file says now, after SIGHUP; none when that cannot be followed.
fn reread(flags: &Given, file: &Path, named: bool, before: &mut Given) -> Option<Plan> {
    let read = || -> Result<(Given, Plan), Box<dyn std::error::Error>> {
        let given = file::merge(flags.clone(), file, named)?;
        let plan = plan(&given)?;
        Ok((given, plan))
    };
    match read() {
        Err(error) => {
            eprintln!("dockerd: nothing is changed: {}", crate::chain(error.as_ref()));
            None
        }
        Ok((given, plan)) => {
            for name in FIXED.iter().filter(|name| given.get(*name) != before.get(*name)) {
                eprintln!("dockerd: {name} cannot be changed while it runs: that is for the next start");
            }
            *before = given;
            Some(plan)
        }
    }
}

/// What `causeway up` is to do.
fn plan(given: &Given) -> Result<Plan, Box<dyn std::error::Error>> {
    let below = |name, default| Path::new(text(given, name).unwrap_or(default)).join("causeway");
    let level = match text(given, "log-level") {
        _ if is(given, "debug") => "debug",
        Some("fatal" | "panic") => "error",
        Some("warning") => "warn",
        Some(level) => level,
        None => "info",
    };
    let mut engine = Vec::new();
    for (name, flag) in [("dns", "--dns"), ("dns-opts", "--dns-opt"), ("dns-search", "--dns-search")] {
        engine.extend(list(given, name).into_iter().flat_map(|word| [flag.to_owned(), word]));
    }
    engine.extend(runtimes::all(given).0.iter().flat_map(|runtime| runtime.arguments()));
    for (name, flag) in [("labels", "--label"), ("host-gateway-ips", "--host-gateway-ip")] {
        engine.extend(list(given, name).into_iter().flat_map(|word| [flag.to_owned(), word]));
    }
    let tls = tls(given, &mut engine);
    Ok(Plan {
        state_dir: below("data-root", "/var/lib/docker"),
        run_dir: below("exec-root", "/var/run/docker"),
        hosts: hosts(given)?,
        inherited: Vec::new(),
        group: Some(text(given, "group").unwrap_or("docker").to_owned()),
        log_level: level.to_owned(),
        published_ports: "obey".to_owned(),
        publish_backend: "auto".to_owned(),
        engine,
        network: of_meaning(given, Meaning::Network).map(Value::Object),
        containers: containers(given).0.map(Value::Object),
        tls,
        ready: Box::new(|| {}),
        reread: None,
    })
}

/// Where to listen, without what systemd has opened.
fn hosts(given: &Given) -> Result<Vec<String>, ListenError> {
    let hosts = list(given, "hosts");
    if hosts.is_empty() {
        return Ok(vec![HOST.to_owned()]);
    }
    let port = if is_tls(given) { TLS_PORT } else { up::PORT };
    let own = hosts.iter().filter(|host| !host.starts_with("fd://"));
    own.map(|host| listen::canonical(host, port)).collect()
}

/// As Docker: who says anything of verifying clients wants TLS, `tlsverify: false` too.
fn is_tls(given: &Given) -> bool {
    is(given, "tls") || given.contains_key("tlsverify")
}

/// What the engine needs for TLS, if it is wanted. Where no file is named they are Docker's.
fn tls(given: &Given, engine: &mut Vec<String>) -> bool {
    let file = |name: &str, usual: &str| match text(given, name) {
        Some(path) => path.to_owned(),
        None => {
            let directory = env::var_os("DOCKER_CERT_PATH").or_else(|| env::var_os("DOCKER_CONFIG"));
            let home = || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".docker");
            directory.map_or_else(home, PathBuf::from).join(usual).display().to_string()
        }
    };
    if !is_tls(given) {
        return false;
    }
    engine.extend(["--tls-cert".to_owned(), file("tlscert", "cert.pem")]);
    engine.extend(["--tls-key".to_owned(), file("tlskey", "key.pem")]);
    if is(given, "tlsverify") {
        engine.extend(["--tls-ca".to_owned(), file("tlscacert", "ca.pem")]);
    }
    true
}

/// What one of the daemons is to do, under the names that the file has.
fn of_meaning(given: &Given, meaning: Meaning) -> Option<Map<String, Value>> {
    let its = SETTINGS.iter().filter(|setting| setting.meaning == meaning);
    let settings: Map<String, Value> =
        its.filter_map(|s| Some((s.name().to_owned(), given.get(s.name())?.clone()))).collect();
    (!settings.is_empty()).then_some(settings)
}

/// What causeway-engine is to do for containers, and what is to be said about that.
fn containers(given: &Given) -> (Option<Map<String, Value>>, Option<String>) {
    let mut settings = of_meaning(given, Meaning::Containers);
    let replaced = settings.as_mut().and_then(logs::replace);
    (settings, replaced.as_deref().map(logs::replaced))
}

fn command() -> Command {
    let mut command = Command::new("dockerd")
        .about("Causeway under Docker's name: takes dockerd's command line")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        );
    for setting in SETTINGS.iter().filter(|setting| !setting.flag.is_empty()) {
        let mut arg = Arg::new(setting.flag).long(setting.flag).action(ArgAction::Append);
        if let Some(short) = setting.short {
            arg = arg.short(short);
        }
        arg = match setting.kind {
            // `--icc`, `--icc=false`; never the next word.
            Kind::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => arg.value_name("VALUE"),
        };
        arg = match setting.meaning {
            Meaning::Done | Meaning::Network | Meaning::Containers => arg,
            Meaning::Only(default) => arg.help(format!("Accepted with its default, {default}, only")),
            Meaning::Nothing(why) => arg.help(format!("Accepted without effect: {why}")),
        };
        command = command.arg(arg);
    }
    command
}

fn flags(matches: &ArgMatches) -> Result<Given, ConfigError> {
    let mut given = Given::new();
    for setting in SETTINGS.iter().filter(|setting| !setting.flag.is_empty()) {
        if matches.value_source(setting.flag) != Some(ValueSource::CommandLine) {
            continue;
        }
        let texts: Vec<String> = matches.get_many(setting.flag).into_iter().flatten().cloned().collect();
        let flag = setting.flag;
        let value = setting.parse(&texts).and_then(|value| setting.refuse(&value).map(|()| value));
        given.insert(setting.name(), value.map_err(|problem| ConfigError::Flag { flag, problem })?);
    }
    Ok(given)
}

fn text<'a>(given: &'a Given, name: &str) -> Option<&'a str> {
    given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn is(given: &Given, name: &str) -> bool {
    given.get(name) == Some(&Value::Bool(true))
}

fn list(given: &Given, name: &str) -> Vec<String> {
    let words = given.get(name).and_then(Value::as_array);
    words.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The sockets that systemd has opened (`-H fd://`).
fn inherited() -> Vec<OwnedFd> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
    let take = |raw| {
        // SAFETY: who set LISTEN_PID to our own pid has put descriptors there for us, and nobody else here takes them.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        Some(descriptor)
    };
    (FIRST_PASSED_FD..FIRST_PASSED_FD.saturating_add(count)).filter_map(take).collect()
}

/// sd_notify(3). Who started us another way is not told.
fn tell_systemd() {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1", path);
    }
}

/// Docker's own, removed with this value.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let found = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = found
            && pid != std::process::id() as i32
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(DockerdError::Running { pid, path: path.to_owned() }.into());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(PathError::at("create the directory", parent))?;
        }
        fs::write(path, std::process::id().to_string()).map_err(PathError::at("write", path))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Result<Given, ConfigError> {
        flags(&command().try_get_matches_from(line.split(' ')).unwrap())
    }

    #[test]
    fn the_line_of_docker_s_own_unit_is_understood() {
        let given = given("dockerd -H fd:// --containerd=/run/containerd/containerd.sock").unwrap();
        assert_eq!(list(&given, "hosts"), ["fd://"]);
        assert!(given.contains_key("containerd"));
    }

    #[test]
    fn flags_become_what_causeway_up_takes() {
        command().debug_assert();
        let line = "dockerd -D --data-root /d --exec-root=/e -H unix:///a -H unix:///b --iptables=false --live-restore \
                    --dns 1.1.1.1,8.8.8.8 --icc=true --add-runtime runsc=/usr/bin/runsc";
        let plan = plan(&given(line).unwrap()).unwrap();
        assert_eq!(plan.state_dir, Path::new("/d/causeway"));
        assert_eq!(plan.run_dir, Path::new("/e/causeway"));
        assert_eq!(plan.hosts, ["unix:///a", "unix:///b"]);
        assert_eq!(plan.log_level, "debug");
        assert_eq!(
            plan.engine,
            ["--dns", "1.1.1.1", "--dns", "8.8.8.8", "--add-runtime", "runsc=/usr/bin/runsc"]
        );
    }

    #[test]
    fn network_settings_go_to_causewayd_under_their_names_in_the_file() {
        let line = "dockerd --bip 10.9.0.1/24 --mtu=1400 --icc=false --default-address-pool base=10.0.0.0/8,size=24 \
                    --default-network-opt bridge=com.docker.network.driver.mtu=1300";
        let network = plan(&given(line).unwrap()).unwrap().network.unwrap();
        let expected = serde_json::json!({
            "bip": "10.9.0.1/24", "mtu": 1400, "icc": false,
            "default-address-pools": [{ "base": "10.0.0.0/8", "size": 24 }],
            "default-network-opts": { "bridge": { "com.docker.network.driver.mtu": "1300" } },
        });
        assert_eq!(network, expected);
        assert_eq!(plan(&given("dockerd").unwrap()).unwrap().network, None);
    }

    #[test]
    fn settings_of_containers_go_to_the_engine_under_their_names_in_the_file() {
        let line = "dockerd --init --no-new-privileges --default-ulimit nofile=10:20 --default-ulimit core=0 \
                    --log-driver journald --log-opt tag=x --tlsverify=false";
        let given = given(line).unwrap();
        let plan = plan(&given).unwrap();
        let expected = serde_json::json!({
            "init": true, "no-new-privileges": true, "log-driver": "local",
            "default-ulimits": {
                "nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}, "core": {"Name": "core", "Soft": 0, "Hard": 0},
            },
        });
        assert_eq!(plan.containers, Some(expected));
        assert!(plan.tls, "Docker serves TLS whatever tlsverify says");
        assert!(containers(&given).1.unwrap().starts_with("log-driver journald has no effect"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let refused = |line: &str| given(line).unwrap_err().to_string();
        assert!(
            refused("dockerd --rootless")
                .starts_with("invalid value for --rootless: this version of causeway")
        );
        assert!(refused("dockerd --mtu big").starts_with("invalid value for --mtu: "));
        assert!(command().try_get_matches_from(["dockerd", "--nope"]).is_err());
    }
}
