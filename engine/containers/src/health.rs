//! Health checks: a command executed in the container again and again, as its image or its maker asked for.

use std::{sync::Arc, time::Duration};

use engine_runtime::{ExecSpec, Task};

use crate::{
    config::{Health, HealthConfig, HealthResult},
    container::Container,
    moment::Moment,
    names,
    service::Inner,
};

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// How many results are kept, and how many bytes of output of each.
const RESULTS: usize = 5;
const OUTPUT: usize = 4096;

/// What to run, when there is something to run.
fn command(health: &HealthConfig, shell: Option<&[String]>) -> Option<Vec<String>> {
    let test = health.test.as_ref()?;
    match test.first().map(String::as_str) {
        Some("CMD") if test.len() > 1 => Some(test[1..].to_vec()),
        Some("CMD-SHELL") if test.len() > 1 => {
            let shell = shell.map_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()], <[String]>::to_vec);
            Some(shell.into_iter().chain(test[1..].iter().cloned()).collect())
        }
        _ => None,
    }
}

fn duration(nanoseconds: i64, default: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds),
        _ => default,
    }
}

impl Inner {
    /// Begins the checks of a container that asks for them; they end with the start that they belong to.
    pub(crate) fn watch_health(self: &Arc<Self>, container: &Arc<Container>, task: &Task) {
        let config = container.config();
        let Some(health) = config.config.healthcheck.clone() else { return };
        let Some(command) = command(&health, config.config.shell.as_deref()) else { return };
        let generation = container.read(|live| live.starts);
        container
            .change(|live| live.health = Some(Health { status: "starting".into(), ..Health::default() }));
        let (inner, container, task) = (self.clone(), container.clone(), task.clone());
        tokio::spawn(async move {
            let mut watch = container.watch();
            let over = watch.wait_for(|live| live.starts != generation || live.task.is_none());
            tokio::select! {
                _ = over => {}
                () = inner.check_forever(&container, &task, &health, command) => {}
            }
        });
    }

    async fn check_forever(
        self: &Arc<Self>,
        container: &Arc<Container>,
        task: &Task,
        health: &HealthConfig,
        command: Vec<String>,
    ) {
        let interval = duration(health.interval, INTERVAL);
        let start_period = duration(health.start_period, Duration::ZERO);
        let start_interval = duration(health.start_interval, START_INTERVAL);
        let retries = if health.retries > 0 { health.retries } else { RETRIES };
        let begun = tokio::time::Instant::now();
        let mut starting = !start_period.is_zero();
        loop {
            let grace = starting && begun.elapsed() < start_period;
            tokio::time::sleep(if grace { start_interval } else { interval }).await;
            if container.status() == crate::config::Status::Paused {
                continue;
            }
            let start = Moment::now();
            let (exit_code, output) = self.check(container, task, health, &command).await;
            let result =
                HealthResult { start: start.to_string(), end: Moment::now().to_string(), exit_code, output };
            let grace = starting && begun.elapsed() < start_period;
            starting = starting && exit_code != 0;
            let mut status = None;
            container.change(|live| {
                let Some(health) = &mut live.health else { return };
                let before = health.status.clone();
                record(health, result, grace, retries);
                status = (health.status != before).then(|| health.status.clone());
            });
            if let Some(status) = status {
                self.emit(container, &format!("health_status: {status}"), &[]);
            }
        }
    }

    /// Runs the command once: its exit code and the beginning of its output. -1 when it did not end in time or at all.
    async fn check(
        &self,
        container: &Container,
        task: &Task,
        health: &HealthConfig,
        command: &[String],
    ) -> (i32, String) {
        let config = container.config();
        let spec = ExecSpec {
            args: command.to_vec(),
            env: config.config.env.clone().unwrap_or_default(),
            cwd: config.config.working_dir.clone(),
            user: config.config.user.clone(),
            ..ExecSpec::default()
        };
        let Ok(id) = names::id() else { return (-1, "cannot make an exec id".into()) };
        let exec = match task.exec(&id, &spec).await {
            Ok(exec) => exec,
            Err(error) => return (-1, error.docker_exec_message()),
        };
        let run = async {
            let mut attach = exec.attach(engine_runtime::AttachOptions::default()).await?;
            exec.start().await?;
            let mut output = Vec::new();
            while let Some(piece) = attach.output.next().await? {
                let room = OUTPUT.saturating_sub(output.len());
                output.extend_from_slice(&piece.data[..piece.data.len().min(room)]);
            }
            let status = exec.wait().await?;
            Ok::<_, engine_runtime::RuntimeError>((
                status.code,
                String::from_utf8_lossy(&output).into_owned(),
            ))
        };
        let timeout = duration(health.timeout, TIMEOUT);
        let result = match tokio::time::timeout(timeout, run).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => (-1, error.docker_exec_message()),
            Err(_) => {
                // It may have ended just now.
                let _ = exec.kill(nix::libc::SIGKILL).await;
                let _ = exec.wait().await;
                (-1, format!("Health check exceeded timeout ({} s)", timeout.as_secs_f32()))
            }
        };
        if let Err(error) = exec.forget().await {
            tracing::debug!(
                container = container.id,
                error = crate::error::chain(&error),
                "cannot forget a health check"
            );
        }
        result
    }
}

/// Counts a result. A failure within the grace of the start period changes nothing.
fn record(health: &mut Health, result: HealthResult, grace: bool, retries: i64) {
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else if !grace {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    health.log.push(result);
    if health.log.len() > RESULTS {
        health.log.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { exit_code, ..HealthResult::default() }
    }

    #[test]
    fn failures_count_only_in_a_row_and_outside_the_start_period() {
        let mut health = Health { status: "starting".into(), ..Health::default() };
        record(&mut health, result(1), true, 2);
        assert_eq!((health.status.as_str(), health.failing_streak), ("starting", 0));
        record(&mut health, result(1), false, 2);
        record(&mut health, result(0), false, 2);
        assert_eq!((health.status.as_str(), health.failing_streak), ("healthy", 0));
        record(&mut health, result(1), false, 2);
        assert_eq!(health.status, "healthy");
        record(&mut health, result(1), false, 2);
        assert_eq!(health.status, "unhealthy");
        record(&mut health, result(1), false, 2);
        assert_eq!(health.log.len(), RESULTS);
    }

    #[test]
    fn a_test_is_a_command_or_a_shells() {
        let health = |words: &[&str]| HealthConfig {
            test: Some(words.iter().map(|w| (*w).to_owned()).collect()),
            ..HealthConfig::default()
        };
        assert_eq!(command(&health(&["CMD", "a", "b"]), None).unwrap(), ["a", "b"]);
        assert_eq!(command(&health(&["CMD-SHELL", "a b"]), None).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(command(&health(&["NONE"]), None), None);
        assert_eq!(command(&health(&[]), None), None);
    }
}
