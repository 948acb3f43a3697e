//! `docker stats`: a container's counters in Docker's JSON.

use std::{fs, pin::Pin, sync::Arc, time::Duration};

use engine_runtime::{BlkioEntry, Stats};
use futures_util::{Stream, stream};
use serde_json::{Map, Value, json};

use crate::{
    Containers, Error, Result, config::Status, container::Container, moment::Moment, service::Inner,
};

/// One reading a second, as in Docker.
const PERIOD: Duration = Duration::from_secs(1);

impl Containers {
    /// One reading of a container's counters, in Docker's JSON; with `one_shot` without a previous one to compare to.
    /// The stream gives one a second, and goes on with zeros while the container does not run.
    pub async fn stats(
        &self,
        reference: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<Value>> + Send>>> {
        if stream && one_shot {
            return Err(Error::invalid("cannot have stream=true and one-shot=true"));
        }
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        if !stream {
            let first = inner.reading(&container).await;
            let value = if one_shot || first.counters.is_none() {
                body(&container, &Reading::default(), &first)
            } else {
                tokio::time::sleep(PERIOD).await;
                body(&container, &first, &inner.reading(&container).await)
            };
            return Ok(Box::pin(stream::iter([Ok(value)])));
        }
        let ticks = tokio::time::interval(PERIOD);
        let start = (inner, container, ticks, Reading::default());
        Ok(Box::pin(stream::unfold(start, |(inner, container, mut ticks, last)| async move {
            ticks.tick().await;
            if container.read(|live| live.removed) {
                return None;
            }
            let reading = inner.reading(&container).await;
            let value = body(&container, &last, &reading);
            Some((Ok(value), (inner, container, ticks, reading)))
        })))
    }
}

#[derive(Debug, Default)]
struct Reading {
    time: Moment,
    /// Nanoseconds that all CPUs of the host have worked or idled.
    system: u64,
    counters: Option<Stats>,
    networks: Map<String, Value>,
}

impl Inner {
    async fn reading(self: &Arc<Self>, container: &Arc<Container>) -> Reading {
        let (task, status, pid) =
            container.read(|live| (live.task.clone(), live.state.status, live.state.pid));
        let time = Moment::now();
        let Some(task) = task.filter(|_| matches!(status, Status::Running | Status::Paused)) else {
            return Reading { time, ..Reading::default() };
        };
        // It may be ending right now: then it has no counters.
        let counters = task.stats().await.ok();
        let config = container.config();
        let networks = match config.host.network_mode == "host" || config.networks.contains_key("none") {
            true => Map::new(),
            false => networks(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default()),
        };
        Reading { time, system: system_cpu(), counters, networks }
    }
}

fn body(container: &Container, last: &Reading, now: &Reading) -> Value {
    let name = format!("/{}", container.config().name);
    let empty = Stats::default();
    let counters = now.counters.as_ref().unwrap_or(&empty);
    let mut value = json!({
        "name": name,
        "id": container.id,
        "read": now.time.to_string(),
        "preread": last.time.to_string(),
        "pids_stats": pids(counters),
        "blkio_stats": {
            "io_service_bytes_recursive": blkio(&counters.blkio_bytes),
            "io_serviced_recursive": blkio(&counters.blkio_operations),
            "io_queue_recursive": [],
            "io_service_time_recursive": [],
            "io_wait_time_recursive": [],
            "io_merged_recursive": [],
            "io_time_recursive": [],
            "sectors_recursive": [],
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(last),
        "memory_stats": memory(now.counters.as_ref()),
    });
    if !now.networks.is_empty() {
        value["networks"] = Value::Object(now.networks.clone());
    }
    value
}

fn pids(stats: &Stats) -> Value {
    let mut pids = Map::new();
    for (name, value) in [("current", stats.pids_current), ("limit", stats.pids_limit)] {
        if value > 0 {
            pids.insert(name.to_owned(), value.into());
        }
    }
    Value::Object(pids)
}

fn cpu(reading: &Reading) -> Value {
    let Some(stats) = &reading.counters else {
        return json!({
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        });
    };
    let mut usage = json!({
        "total_usage": stats.cpu_total,
        "usage_in_kernelmode": stats.cpu_system,
        "usage_in_usermode": stats.cpu_user,
    });
    if !stats.cpu_each.is_empty() {
        usage["percpu_usage"] = stats.cpu_each.clone().into();
    }
    json!({
        "cpu_usage": usage,
        "system_cpu_usage": reading.system,
        "online_cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "throttling_data": {
            "periods": stats.throttling_periods,
            "throttled_periods": stats.throttled_periods,
            "throttled_time": stats.throttled_time,
        },
    })
}

fn memory(stats: Option<&Stats>) -> Value {
    let Some(stats) = stats else { return json!({}) };
    let mut memory = json!({
        "usage": stats.memory_usage,
        "stats": stats.memory_stat,
        // No limit means all that the host has.
        "limit": stats.memory_limit.min(total_memory()),
    });
    if stats.memory_max_usage > 0 {
        memory["max_usage"] = stats.memory_max_usage.into();
    }
    if stats.memory_failures > 0 {
        memory["failcnt"] = stats.memory_failures.into();
    }
    memory
}

fn blkio(entries: &[BlkioEntry]) -> Value {
    let entry =
        |e: &BlkioEntry| json!({"major": e.major, "minor": e.minor, "op": e.operation, "value": e.value});
    entries.iter().map(entry).collect()
}

/// The interfaces of a `/proc/<pid>/net/dev`, without the loopback.
fn networks(text: &str) -> Map<String, Value> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = counters[..]
        else {
            return None;
        };
        let name = name.trim();
        (name != "lo").then(|| {
            let value = json!({
                "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
                "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
            });
            (name.to_owned(), value)
        })
    };
    text.lines().filter_map(interface).collect()
}

/// Nanoseconds of all CPUs together, from the first line of /proc/stat: user to softirq and steal, as Docker counts.
fn system_cpu() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 =
        line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf has no preconditions.
    let per_second =
        u64::try_from(unsafe { nix::libc::sysconf(nix::libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    ticks * (1_000_000_000 / per_second)
}

/// Bytes.
fn total_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    kibibytes.map_or(u64::MAX, |kibibytes: u64| kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_the_kernels_table() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0: 1182 13 1 2 0 0 0 0 126 3 4 5 0 0 0 0\n";
        let networks = networks(text);
        assert_eq!(networks.len(), 1);
        assert_eq!(networks["eth0"]["rx_bytes"], 1182);
        assert_eq!(networks["eth0"]["tx_dropped"], 5);
    }
}
