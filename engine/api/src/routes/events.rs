//! `/events`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{extract::State, response::Response};
use engine_containers::events::{Event, EventFilter, Subscription};
use futures_util::{Stream, StreamExt, stream};

use crate::{
    ApiError, Engine,
    query::Params,
    shutdown::Shutdown,
    stream::{json_lines, line},
};

/// What happened since `since` (as far back as the history reaches) and what happens until `until`; without `until`,
/// for ever.
pub(super) async fn events(
    State(engine): State<Engine>,
    params: Params,
    shutdown: Shutdown,
) -> Result<Response, ApiError> {
    let since = params.time("since")?;
    let until = params.time("until")?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            params.text("since"),
            params.text("until")
        )));
    }
    let filter = EventFilter::new(params.any_filters()?)?;
    let subscription = engine.containers.events().subscribe(since.map(nanoseconds));
    let shown = told(subscription, until)
        .filter(move |event| std::future::ready(filter.matches(event)))
        .map(|event| line(&*event));
    Ok(json_lines(shutdown.cut(shown)))
}

fn told(subscription: Subscription, until: Option<SystemTime>) -> impl Stream<Item = Arc<Event>> + Send {
    let last = until.map_or(i64::MAX, nanoseconds);
    let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
    let deadline = left.map(|left| tokio::time::Instant::now() + left);
    stream::unfold(subscription, move |mut subscription| async move {
        let event = match subscription.next_past() {
            Some(event) => event,
            None => match deadline {
                Some(deadline) => {
                    tokio::time::timeout_at(deadline, subscription.next()).await.ok().flatten()?
                }
                None => subscription.next().await?,
            },
        };
        (event.time_nano <= last).then_some((event, subscription))
    })
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine_containers::events::Events;

    use super::*;

    #[tokio::test]
    async fn an_until_that_has_passed_ends_the_stream_after_the_history() {
        let events = Events::default();
        for id in ["a", "b"] {
            events.emit("network", "create", id, BTreeMap::new());
        }
        let subscription = events.subscribe(Some(0));
        let seen: Vec<_> = told(subscription, Some(SystemTime::now())).collect().await;
        assert_eq!(seen.iter().map(|e| e.actor.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        events.emit("network", "create", "c", BTreeMap::new());
        let early = told(events.subscribe(Some(0)), Some(UNIX_EPOCH + Duration::from_secs(1)));
        assert_eq!(early.count().await, 0);
    }
}
