//! Says when published ports are flooded, and keeps the shares of sources right meanwhile.

use std::{path::PathBuf, time::Duration};

use ebpf_portmap::{Flood, Watch};
use libnetwork_core::{PortError, chain};
use libnetwork_model::ErrorKind;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const PERIOD: Duration = Duration::from_secs(30);
/// A flood that goes on, or comes back, is said again after so long.
const QUIET: Duration = Duration::from_secs(600);

/// Until `end`; not at all where no port mapper has its pins in `bpffs`.
pub(crate) async fn report(bpffs: PathBuf, end: CancellationToken) {
    let mut watch = match open(bpffs).await {
        Ok(watch) => watch,
        Err(error) => return debug!(error = chain(&error), "published ports are not watched"),
    };
    let mut said: Option<Instant> = None;
    let mut interval = tokio::time::interval(PERIOD);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = interval.tick() => {}
        }
        let looked = tokio::task::spawn_blocking(move || (watch.look(), watch)).await;
        let Ok((found, again)) = looked else { return };
        watch = again;
        match found {
            Ok(None) => {}
            Ok(Some(flood)) => {
                if said.is_none_or(|at| at.elapsed() >= QUIET) {
                    say(flood);
                    said = Some(Instant::now());
                }
            }
            Err(error) => debug!(error = chain(&error), "published ports could not be watched"),
        }
    }
}

async fn open(bpffs: PathBuf) -> Result<Watch, PortError> {
    match tokio::task::spawn_blocking(move || Watch::open(&bpffs)).await {
        Ok(opened) => opened,
        Err(ended) => Err(PortError {
            operation: "open",
            object: "the table of flows".to_owned(),
            kind: ErrorKind::Internal,
            source: Box::new(ended),
        }),
    }
}

fn say(flood: Flood) {
    if flood.unconfirmed > 0 {
        warn!(
            flows = flood.unconfirmed,
            "published ports are flooded by packets that begin flows and are never confirmed: the oldest of those made \
             room, established flows stay"
        );
    }
    if flood.held_back > 0 {
        warn!(
            flows = flood.held_back,
            "one source has its share of the flows of published ports: what it opened beyond that works, and makes room \
             for others when there is need"
        );
    }
}
