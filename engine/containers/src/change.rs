//! Changing a container that exists: its name, its limits, its restart policy.

use std::sync::Arc;

use libnetwork_model::{ErrorKind, HasKind};

use crate::{
    Containers, Error, Result,
    config::{Resources, UpdateBody, Updated},
    container::Container,
    names,
    service::{Inner, detached},
    spec, validate,
};

impl Containers {
    pub async fn rename(&self, reference: &str, name: &str) -> Result<()> {
        if name.is_empty() || reference.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.inner.find(reference)?;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        detached(async move { inner.rename(&container, &name).await }).await
    }

    pub async fn update(&self, reference: &str, body: UpdateBody) -> Result<Updated> {
        let container = self.inner.find(reference)?;
        let inner = self.inner.clone();
        detached(async move { inner.update(&container, body).await }).await
    }
}

impl Inner {
    async fn rename(self: &Arc<Self>, container: &Arc<Container>, name: &str) -> Result<()> {
        let _turn = container.turn().await;
        container.stays("renamed")?;
        let mut config = (*container.config()).clone();
        let old = config.name.clone();
        let context = "Error when allocating new name";
        let name = match names::check(name) {
            Ok(name) => name.to_owned(),
            Err(_) => {
                let bare = name.trim_start_matches('/');
                let text =
                    format!("Invalid container name (/{bare}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
                return Err(Error::Invalid(text).during(context));
            }
        };
        if name == old {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.reserve(&name, &container.id).map_err(|error| error.during(context))?;
        config.name.clone_from(&name);
        if container.read(|live| live.sandbox.is_some()) {
            match self.rename_sandbox(&config).await {
                Ok(sandbox) => container.change(|live| live.sandbox = Some(Arc::new(sandbox))),
                Err(error) => {
                    if error.kind() == ErrorKind::Unavailable {
                        self.return_to_record(container).await;
                    }
                    self.release(&name);
                    return Err(error);
                }
            }
        }
        if let Err(error) = self.save_config(container, config).await {
            // Before anybody else may have the name.
            self.follow_record(container).await;
            self.release(&name);
            return Err(error);
        }
        self.release(&old);
        self.emit(container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    async fn update(self: &Arc<Self>, container: &Arc<Container>, body: UpdateBody) -> Result<Updated> {
        let context = || format!("Cannot update container {}", container.id);
        let _turn = container.turn().await;
        container.stays("updated")?;
        let mut config = (*container.config()).clone();
        let (asked, policy) = (body.resources, body.restart_policy);
        merge(&mut config.host.resources, &asked);
        validate::resources(&config.host.resources)?;
        if !policy.name.is_empty() {
            if config.host.auto_remove && policy.name != "no" {
                return Err(Error::Conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container".into(),
                ));
            }
            validate::restart_policy(&policy, false)?;
            config.host.restart_policy = policy;
        }
        if container.read(|live| live.state.has_process()) {
            let limits = spec::resources(&asked);
            if limits != engine_runtime::Resources::default() {
                self.live_task(container)?
                    .update(&limits)
                    .await
                    .map_err(|e| Error::from(e).during(context()))?;
            }
        }
        self.save_config(container, config).await?;
        self.emit(container, "update", &[]);
        Ok(Updated { warnings: None })
    }
}

/// What is given replaces what was; zero leaves it.
fn merge(own: &mut Resources, asked: &Resources) {
    if asked.nano_cpus != 0 {
        // --cpus and a quota say the same thing; the later one counts.
        (own.cpu_period, own.cpu_quota) = (0, 0);
    } else if asked.cpu_quota != 0 || asked.cpu_period != 0 {
        own.nano_cpus = 0;
    }
    for (own, asked) in [
        (&mut own.cpu_shares, asked.cpu_shares),
        (&mut own.memory, asked.memory),
        (&mut own.nano_cpus, asked.nano_cpus),
        (&mut own.cpu_period, asked.cpu_period),
        (&mut own.cpu_quota, asked.cpu_quota),
        (&mut own.cpu_realtime_period, asked.cpu_realtime_period),
        (&mut own.cpu_realtime_runtime, asked.cpu_realtime_runtime),
        (&mut own.memory_reservation, asked.memory_reservation),
        (&mut own.memory_swap, asked.memory_swap),
    ] {
        if asked != 0 {
            *own = asked;
        }
    }
    if asked.blkio_weight != 0 {
        own.blkio_weight = asked.blkio_weight;
    }
    for (own, asked) in
        [(&mut own.cpuset_cpus, &asked.cpuset_cpus), (&mut own.cpuset_mems, &asked.cpuset_mems)]
    {
        if !asked.is_empty() {
            own.clone_from(asked);
        }
    }
    if asked.pids_limit.is_some_and(|limit| limit != 0) {
        own.pids_limit = asked.pids_limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let mut own = Resources { memory: 1 << 30, cpu_shares: 5, nano_cpus: 1, ..Resources::default() };
        merge(&mut own, &Resources { memory: 64 << 20, cpu_quota: 50_000, ..Resources::default() });
        assert_eq!((own.memory, own.cpu_shares, own.nano_cpus, own.cpu_quota), (64 << 20, 5, 0, 50_000));
    }
}
