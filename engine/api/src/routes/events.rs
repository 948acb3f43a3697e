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
    let until = params.time("until")?.map(|until| Until::new(until, params.text("until")));
    if let (Some(since), Some(until)) = (since, &until)
        && since > until.last
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            params.text("since"),
            params.text("until")
        )));
    }
    let filter = EventFilter::new(params.any_filters()?);
    let subscription = engine.containers.events().subscribe(since.map(nanoseconds));
    let shown = told(subscription, until)
        .filter(move |event| std::future::ready(filter.matches(event)))
        .map(|event| line(&*event));
    Ok(json_lines(shutdown.cut(shown)))
}

/// Where the stream ends.
struct Until {
    /// When it stops waiting.
    deadline: SystemTime,
    /// The last moment that it tells of. The CLI cuts `--until 0s` to whole seconds, and would not see what it did just
    /// before: a time without a fraction takes in its whole second.
    last: SystemTime,
}

impl Until {
    fn new(until: SystemTime, text: &str) -> Self {
        let last = if text.contains('.') { until } else { until + Duration::from_nanos(999_999_999) };
        Self { deadline: until, last }
    }
}

fn told(subscription: Subscription, until: Option<Until>) -> impl Stream<Item = Arc<Event>> + Send {
    let last = until.as_ref().map_or(i64::MAX, |until| nanoseconds(until.last));
    let left = until.map(|until| until.deadline.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
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
        let until =
            |text: &str| Some(Until::new(UNIX_EPOCH + Duration::from_secs(text.parse().unwrap()), text));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
        let seen: Vec<_> = told(subscription, until(&now)).collect().await;
        assert_eq!(seen.iter().map(|e| e.actor.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(told(events.subscribe(Some(0)), until("1")).count().await, 0);
    }
}
