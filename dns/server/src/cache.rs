//! Answers of upstream servers, kept for as long as their records allow (RFC 1035 3.2.1, for absence RFC 2308 5).
//!
//! What one route said is told to nobody on another: the servers are part of what is asked, and so is the sandbox that
//! asks from its own namespace, where an address may be another machine. With DNSSEC asked for and without are two
//! answers. Answers to a client's own options (cookies, subnets) are not kept, nor failures, nor what was truncated.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::op;

use crate::{
    message::{Lifetime, Reply},
    respond::{Forward, Route},
};

/// The bytes of one of the two generations. What is asked for again moves to the younger; when that is full the older
/// is forgotten.
const GENERATION: usize = 2 << 20;
/// The longest reply kept.
const LONGEST: usize = 16 << 10;
/// What an entry costs beside its reply: its key twice over, its place in the table.
const OVERHEAD: usize = 320;

#[derive(Debug, Default)]
pub(crate) struct Cache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    young_bytes: usize,
}

/// Everything that an answer depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    route: Route,
    question: op::Query,
    recursion_desired: bool,
    authentic_data: bool,
    checking_disabled: bool,
    /// Whether there is an OPT record, and whether it asks for DNSSEC.
    edns: Option<bool>,
}

#[derive(Debug)]
struct Entry {
    reply: Reply,
    lifetime: Lifetime,
    since: Instant,
    server: IpAddr,
}

/// What is known of a kept answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Who said it.
    pub(crate) server: IpAddr,
    pub(crate) age: Duration,
}

impl Cache {
    /// Writes the answer, its lifetimes shorter by its age, if there is one.
    pub(crate) fn answer(&self, ask: &Forward, now: Instant, out: &mut Vec<u8>) -> Option<Kept> {
        let key = key(ask)?;
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = generations.find(key)?;
        let age = entry.age(now)?;
        entry.reply.aged(&entry.lifetime, age.as_secs() as u32, (&ask.query, &ask.packet), out);
        let kept = Kept { server: entry.server, age };
        let (metadata, length) = (entry.reply.metadata, out.len());
        drop(generations);
        if length > ask.limit.into() {
            ask.query.truncated(metadata, ask.limit, out).ok()?;
        }
        Some(kept)
    }

    pub(crate) fn keep(&self, ask: &Forward, reply: &Reply, server: IpAddr, now: Instant) {
        let Some(key) = key(ask).filter(|_| reply.bytes.len() <= LONGEST) else { return };
        let Some(lifetime) = reply.lifetime(&ask.query) else { return };
        let entry = Entry { reply: reply.clone(), lifetime, since: now, server };
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
    }
}

fn key(ask: &Forward) -> Option<Key> {
    let Forward { query, route, .. } = ask;
    if query.edns.is_some_and(|e| e.has_options) {
        return None;
    }
    Some(Key {
        route: route.clone(),
        question: query.question.clone(),
        recursion_desired: query.metadata.recursion_desired,
        authentic_data: query.metadata.authentic_data,
        checking_disabled: query.metadata.checking_disabled,
        edns: query.edns.map(|e| e.dnssec_ok),
    })
}

impl Generations {
    fn find(&mut self, key: Key) -> Option<&Entry> {
        if let Some((key, entry)) = self.old.remove_entry(&key) {
            self.insert(key, entry);
        }
        self.young.get(&key)
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if self.young_bytes + entry.bytes() > GENERATION {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.old.remove(&key);
        self.young_bytes -= self.young.remove(&key).map_or(0, |e| e.bytes());
        self.young_bytes += entry.bytes();
        self.young.insert(key, entry);
    }
}

impl Entry {
    /// None when its lifetime is over.
    fn age(&self, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since(self.since);
        (age < Duration::from_secs(self.lifetime.seconds.into())).then_some(age)
    }

    fn bytes(&self) -> usize {
        self.reply.bytes.len() + 2 * self.lifetime.at.len() + OVERHEAD
    }
}

#[cfg(test)]
mod tests;
