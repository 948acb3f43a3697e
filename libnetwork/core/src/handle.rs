//! Starting the core, and talking to it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use libnetwork_ipam::Pool;
use libnetwork_model::{HostFacts, Intent, NetworkId, Opening, PortWish, PublishedPort, Revision, SandboxId};
use libnetwork_plan::KernelError;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Defaults, DeniedPort, Drivers, Error, Event, Families, Kernel, NameServer, PortFigures, PortMapper,
    Store, StoreError,
    actor::{Actor, Answer, Committed, Envelope},
    defaults::is_made_for_user,
    draft::{BusyPorts, Desk, Subject, resolve},
    hints::Hints,
    mapper::Mapper,
    reconcile::{Question, Reason, Reconciler},
    request::{Command, CreateNetwork, EndpointSpec, Join, Reserve},
};

/// Commands that wait for the actor; a client whose command does not fit waits before that.
const QUEUE: usize = 256;
/// Events that a slow watcher may be behind before it has to start again.
const EVENTS: usize = 4096;

/// What the core is told, besides what it drives.
pub struct Config {
    pub pools: Vec<Pool>,
    /// What the daemon's configuration says about the default bridge and about options that nobody gave.
    pub defaults: Defaults,
    /// Where the kernel adapter keeps the sandboxes' namespaces, one file each, named by the sandbox's id.
    pub netns: PathBuf,
    /// 32 random bytes, different at each call.
    pub random: Box<dyn FnMut() -> [u8; 32] + Send>,
    pub busy: BusyPorts,
}

/// What the core drives.
pub struct Parts<S, K, M, N> {
    pub store: S,
    pub kernel: K,
    pub mapper: M,
    pub names: N,
    pub drivers: Drivers,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read what was stored")]
    Store(#[from] StoreError),
    #[error("cannot look at the host")]
    Host(#[from] KernelError),
    #[error("cannot make the predefined networks")]
    Predefined(#[source] Error),
}

/// The core's tasks. They end when the token given to [`start`] is cancelled and every command is answered.
pub struct Running {
    actor: JoinHandle<()>,
    reconciler: JoinHandle<()>,
}

/// Asks the core for things. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Envelope>,
    questions: mpsc::Sender<Question>,
    committed: watch::Receiver<Committed>,
    host: watch::Receiver<Arc<HostFacts>>,
    events: broadcast::Sender<Event>,
    drivers: Arc<Drivers>,
}

/// Loads the intent, makes the predefined networks where they are missing, adopts what the kernel holds (what is not in
/// the intent goes, what is missing is made, the rest is left alone), and takes commands from there on.
pub async fn start<S: Store, K: Kernel, M: PortMapper, N: NameServer>(
    config: Config,
    parts: Parts<S, K, M, N>,
    shutdown: CancellationToken,
) -> Result<(Handle, Running), StartError> {
    let Config { pools, defaults, netns, mut random, mut busy } = config;
    let Parts { mut store, mut kernel, mapper, names, drivers } = parts;
    let facts = Arc::new(kernel.host().await?);
    names.upstreams(&facts);

    let (mut revision, mut intent) = store.load()?;
    let made = is_made_for_user(&mut kernel, &drivers, &intent).await?;
    let change = Desk {
        intent: &intent,
        host: &facts,
        drivers: &drivers,
        pools: &pools,
        defaults: &defaults,
        hints: &mut Hints::default(),
        random: &mut *random,
        busy: &mut busy,
        returning: &Default::default(),
    }
    .predefined(made)
    .map_err(StartError::Predefined)?;
    if !change.0.is_empty() {
        revision = store.commit(revision, std::slice::from_ref(&change))?;
        intent = intent.apply(&change);
    }
    names.publish(&intent, None);

    let drivers = Arc::new(drivers);
    let (command_sender, commands) = mpsc::channel(QUEUE);
    let (question_sender, questions) = mpsc::channel(QUEUE);
    let (step_sender, steps) = mpsc::unbounded_channel();
    let (report_sender, reports) = mpsc::unbounded_channel();
    let (committed_sender, committed) = watch::channel(Committed { revision, intent: intent.clone() });
    let (host_sender, host) = watch::channel(facts);
    let (events, _) = broadcast::channel(EVENTS);

    let mut reconciler = Reconciler {
        kernel,
        mapper: Mapper::new(mapper),
        names,
        drivers: drivers.clone(),
        netns,
        steps,
        questions,
        reports: report_sender,
        events: events.clone(),
        host: host_sender,
        intent: intent.clone(),
        owners: Default::default(),
        open: Default::default(),
        owed: Default::default(),
        bridges: Default::default(),
        in_the_way: Default::default(),
        heard: Default::default(),
    };
    reconciler.full(Reason::Start).await;
    let actor = Actor {
        store: Some(store),
        drivers: drivers.clone(),
        pools,
        defaults,
        random,
        busy,
        host: host.clone(),
        commands,
        steps: step_sender,
        reports,
        committed: committed_sender,
        events: events.clone(),
        intent,
        revision,
        hand: Default::default(),
    };
    let running =
        Running { reconciler: tokio::spawn(reconciler.run()), actor: tokio::spawn(actor.run(shutdown)) };
    Ok((
        Handle { commands: command_sender, questions: question_sender, committed, host, events, drivers },
        running,
    ))
}

impl Running {
    /// Waits for the end of both tasks. An error means that one of them panicked.
    pub async fn finished(self) -> Result<(), tokio::task::JoinError> {
        self.actor.await?;
        self.reconciler.await
    }
}

impl Handle {
    /// The intent as committed, for reading.
    pub fn intent(&self) -> (Revision, Intent) {
        let committed = self.committed.borrow();
        (committed.revision, committed.intent.clone())
    }

    pub fn host(&self) -> Arc<HostFacts> {
        self.host.borrow().clone()
    }

    pub fn drivers(&self) -> &Drivers {
        &self.drivers
    }

    /// What happens from here on.
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Answers with the intent that has the network, and its id.
    pub async fn create_network(&self, request: CreateNetwork) -> Result<(Intent, NetworkId), Error> {
        match self.ask(Command::CreateNetwork(request)).await? {
            Answer { intent, about: Subject::Network(id) } => Ok((intent, id)),
            _ => Err(Error::Stopping),
        }
    }

    /// By full id, name, or unambiguous id prefix.
    pub async fn remove_network(&self, reference: String) -> Result<(), Error> {
        self.ask(Command::RemoveNetwork { reference }).await.map(drop)
    }

    /// Makes a sandbox with all that it is to have, or nothing. One of the same id is replaced; what the two have in
    /// common is left alone.
    pub async fn join(&self, request: Join) -> Result<Intent, Error> {
        self.ask(Command::Join(request)).await.map(|a| a.intent)
    }

    /// Removes a sandbox with all that is in it. One that is not there is as good as removed. With `keep` the addresses
    /// it had are kept for it; without, nothing is.
    pub async fn leave(&self, sandbox: SandboxId, keep: bool) -> Result<(), Error> {
        self.ask(Command::Leave { sandbox, keep }).await.map(drop)
    }

    /// Keeps addresses for a container, whether or not it runs.
    pub async fn reserve(&self, request: Reserve) -> Result<Intent, Error> {
        self.ask(Command::Reserve(request)).await.map(|a| a.intent)
    }

    /// Changes settings of a network while it is in use: all of them or none.
    pub async fn set_network(
        &self,
        reference: String,
        settings: BTreeMap<String, String>,
    ) -> Result<(Intent, NetworkId), Error> {
        match self.ask(Command::SetNetwork { reference, settings }).await? {
            Answer { intent, about: Subject::Network(id) } => Ok((intent, id)),
            _ => Err(Error::Stopping),
        }
    }

    pub async fn connect(&self, sandbox: SandboxId, endpoint: EndpointSpec) -> Result<Intent, Error> {
        self.ask(Command::Connect { sandbox, endpoint }).await.map(|a| a.intent)
    }

    pub async fn disconnect(&self, sandbox: SandboxId, network: String) -> Result<Intent, Error> {
        self.ask(Command::Disconnect { sandbox, network }).await.map(|a| a.intent)
    }

    pub async fn rename(&self, sandbox: SandboxId, name: String) -> Result<Intent, Error> {
        self.ask(Command::Rename { sandbox, name }).await.map(|a| a.intent)
    }

    /// Makes the published ports of a live sandbox exactly these, or leaves them as they are.
    pub async fn set_ports(&self, sandbox: SandboxId, ports: Vec<PortWish>) -> Result<Intent, Error> {
        self.ask(Command::SetPorts { sandbox, ports }).await.map(|a| a.intent)
    }

    /// Makes what an endpoint reaches, where its network keeps endpoints apart, exactly this.
    pub async fn set_openings(
        &self,
        sandbox: SandboxId,
        network: String,
        openings: Vec<Opening>,
    ) -> Result<Intent, Error> {
        self.ask(Command::SetOpenings { sandbox, network, openings }).await.map(|a| a.intent)
    }

    /// The published ports of a sandbox with what went through them, where that is counted.
    pub async fn figures(
        &self,
        sandbox: SandboxId,
    ) -> Result<Vec<(PublishedPort, Option<PortFigures>)>, Error> {
        if self.committed.borrow().intent.sandbox(&sandbox).is_none() {
            return Err(Error::SandboxNotFound { id: sandbox.to_string() });
        }
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Figures { sandbox, reply }).await.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?.map_err(|error| Error::Figures(Arc::new(error)))
    }

    /// Which of these ports, asked for by number and not published yet, the host's firewall would deny to clients of a container
    /// on these networks, by name or id; one that is not there counts for nothing.
    pub async fn denied(&self, wishes: &[PortWish], networks: &[String]) -> Result<Vec<DeniedPort>, Error> {
        let exact = |wish: &PortWish| {
            let host_ports = wish.host_ports.filter(|range| range.count() == wish.count)?;
            let PortWish { protocol, host_ip, container_port, .. } = *wish;
            Some(PublishedPort { protocol, host_ip, host_ports, container_port, routed: false })
        };
        let ports: Vec<PublishedPort> = wishes.iter().filter_map(exact).collect();
        let intent = self.committed.borrow().intent.clone();
        let networks = networks.iter().filter_map(|network| resolve(&intent, network).ok());
        let subnets = networks.flat_map(|network| &network.subnets);
        let families =
            subnets.map(|s| if s.subnet.addr().is_ipv6() { Families::Ipv6 } else { Families::Ipv4 });
        let Some(families) = families.reduce(Families::and).filter(|_| !ports.is_empty()) else {
            return Ok(Vec::new());
        };
        let (reply, answer) = oneshot::channel();
        self.questions
            .send(Question::Denied { ports, families, reply })
            .await
            .map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)
    }

    async fn ask(&self, command: Command) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Envelope { command, reply }).await.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?
    }
}
