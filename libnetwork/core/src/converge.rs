//! One round against the kernel: observe, plan, apply, and again while that helps.

use std::{collections::BTreeSet, time::Duration};

use libnetwork_model::{ErrorKind, HasKind};
use libnetwork_plan::{Cause, Desired, KernelError, Key, Observed, Operation, Scope, plan};

use crate::Kernel;

/// What a round did and what it could not do.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) done: Vec<Operation>,
    /// What is still wrong. An error without a key is about the whole scope.
    pub(crate) failed: Vec<KernelError>,
}

/// The waits before trying again what the kernel may accept a moment later (EBUSY, EAGAIN, a listing that kept being
/// interrupted). Anything else that failed is tried once more, against a fresh look: the world may have moved between
/// the look and the change.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(25), Duration::from_millis(120)];

/// Makes the scope as desired.
///
/// The kernel's own acknowledgements count as the second look: every operation is answered one by one, what changes
/// behind our back is notified, and the resync verifies everything. Looking again after each change would double the
/// cost of every command to learn what was just said.
///
/// `widen` adds to what is desired and looked at when the first try failed: what the failed objects hang on.
pub(crate) async fn converge<K: Kernel>(
    kernel: &mut K,
    desired: Desired,
    scope: Scope,
    widen: impl FnOnce() -> Desired,
) -> Round {
    finish(kernel, desired, scope, widen, Round::default()).await
}

/// [`converge`] for `keys`, of which `new` are taken to be absent: they are made without a look. Making is exclusive, so
/// where something is in the way after all the kernel refuses, and everything is looked at.
pub(crate) async fn converge_new<K: Kernel>(
    kernel: &mut K,
    desired: Desired,
    keys: BTreeSet<Key>,
    new: &BTreeSet<Key>,
    widen: impl FnOnce() -> Desired,
) -> Round {
    let mut round = Round::default();
    if !new.is_empty() {
        let known: BTreeSet<Key> = keys.difference(new).cloned().collect();
        let looked =
            if known.is_empty() { Ok(Observed::new()) } else { kernel.observe(&Scope::Keys(known)).await };
        if let Ok(observed) = looked {
            let scope = Scope::Keys(keys.clone());
            round.failed = carry_out(kernel, &desired, &observed, &scope, &mut round.done).await;
            if round.failed.is_empty() {
                return round;
            }
        }
    }
    finish(kernel, desired, Scope::Keys(keys), widen, round).await
}

async fn finish<K: Kernel>(
    kernel: &mut K,
    mut desired: Desired,
    mut scope: Scope,
    widen: impl FnOnce() -> Desired,
    mut round: Round,
) -> Round {
    let mut widen = Some(widen);
    for pause in PAUSES.map(Some).into_iter().chain([None]) {
        round.failed = attempt(kernel, &desired, &scope, &mut round.done).await;
        let passing = round.failed.iter().any(|e| e.kind() == ErrorKind::Unavailable);
        let foreign = round.failed.iter().any(|e| matches!(e.cause, Cause::Foreign(_)));
        match (widen.take(), pause) {
            _ if round.failed.is_empty() || (foreign && !passing) => break,
            (Some(widen), Some(_)) if !passing => extend(&mut desired, &mut scope, widen()),
            (_, Some(pause)) if passing => tokio::time::sleep(pause).await,
            _ => break,
        }
    }
    round
}

async fn attempt<K: Kernel>(
    kernel: &mut K,
    desired: &Desired,
    scope: &Scope,
    done: &mut Vec<Operation>,
) -> Vec<KernelError> {
    match kernel.observe(scope).await {
        Ok(observed) => carry_out(kernel, desired, &observed, scope, done).await,
        Err(error) => vec![error],
    }
}

async fn carry_out<K: Kernel>(
    kernel: &mut K,
    desired: &Desired,
    observed: &Observed,
    scope: &Scope,
    done: &mut Vec<Operation>,
) -> Vec<KernelError> {
    let plan = plan(desired, observed, scope);
    let in_the_way = plan.foreign.into_iter().map(|(key, _)| foreign(key.clone(), key));
    // What is held back by someone else's object was not made either: whoever wants it has to hear why.
    let held_back = plan.blocked.into_iter().map(|(key, by)| foreign(key, by));
    let mut failed: Vec<KernelError> = in_the_way.chain(held_back).collect();
    if plan.operations.is_empty() {
        return failed;
    }
    let results = kernel.apply(&plan.operations).await;
    for (operation, result) in plan.operations.into_iter().zip(results) {
        match result {
            Ok(()) => done.push(operation),
            Err(error) => failed.push(error),
        }
    }
    failed
}

fn foreign(key: Key, by: Key) -> KernelError {
    KernelError {
        operation: "create",
        namespace: key.ns().clone(),
        cause: Cause::Foreign(Box::new(by)),
        key: Some(key),
    }
}

fn extend(desired: &mut Desired, scope: &mut Scope, more: Desired) {
    if let Scope::Keys(keys) = scope {
        keys.extend(more.keys().cloned());
    }
    desired.extend(more);
}
