//! All that talks to the kernel, in the hands of one thread.

use std::{os::fd::BorrowedFd, path::PathBuf};

use libnetwork_model::HostFacts;
use libnetwork_plan::{Cause, Drift, KernelError, Ns, Observed, Operation, Scope};
use tokio::sync::mpsc;

use crate::{
    Config, apply,
    before::Before,
    facts, link,
    netlink::{Protocol, Socket},
    nft, observe,
    reaper::Reaper,
    resolvers::ResolvConf,
    spaces::Spaces,
    watch::{Expected, Noticed, ROUTE_GROUPS},
};

pub(crate) struct State {
    pub(crate) spaces: Spaces,
    resolv_conf: PathBuf,
    /// None where the kernel watches no more files: changes are found with the next look at everything.
    resolvers: Option<ResolvConf>,
    /// Hear of every change to links, addresses, routes and nftables, in the host and in all sandboxes.
    route: Socket,
    nft: Socket,
    noticed: Noticed,
    reaper: Reaper,
    before: Before,
    drifts: mpsc::UnboundedSender<Drift>,
    buffer: Vec<u8>,
}

impl State {
    /// In the namespace of the calling thread.
    pub(crate) fn open(config: Config, drifts: mpsc::UnboundedSender<Drift>) -> Result<Self, KernelError> {
        let error = |cause: Cause| KernelError { operation: "open", namespace: Ns::Host, key: None, cause };
        let mut spaces = Spaces::open(config.netns_dir).map_err(error)?;
        let route = Socket::watch(Protocol::Route, &ROUTE_GROUPS).map_err(error)?;
        let nft = Socket::watch(Protocol::Netfilter, &[nft::GROUP]).map_err(error)?;
        let reaper = Reaper::start().map_err(error)?;
        // What is told of a link later is told against how it was found.
        let host = spaces.host();
        let links = link::list(&mut host.route).map_err(error)?;
        host.links.note_all(&Ns::Host, &links);
        let resolvers = ResolvConf::watch(&config.resolv_conf);
        if let Err(error) = &resolvers {
            tracing::warn!(%error, "cannot watch for other resolvers: they are looked for every half minute");
        }
        Ok(State {
            spaces,
            resolvers: resolvers.ok(),
            resolv_conf: config.resolv_conf,
            route,
            nft,
            noticed: Noticed::default(),
            reaper,
            before: Before::new(config.sysctl_record),
            drifts,
            buffer: Vec::new(),
        })
    }

    /// What is readable when something was heard.
    pub(crate) fn ears(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = [self.route.as_fd(), self.nft.as_fd()];
        sockets.into_iter().chain(self.resolvers.as_ref().map(ResolvConf::as_fd)).collect()
    }

    pub(crate) fn observe(&mut self, scope: &Scope) -> Result<Observed, KernelError> {
        observe::observe(&mut self.spaces, scope)
    }

    pub(crate) fn apply(&mut self, operations: &[Operation]) -> Vec<Result<(), KernelError>> {
        // What waits was not our doing.
        self.listen(&Expected::default());
        apply::apply(&mut self.spaces, &self.reaper, &self.before, operations)
    }

    /// Hears what the kernel says of operations that were applied just now: it has said it all by then. Whoever asked for
    /// them need not wait for this, but nothing else may be done before.
    pub(crate) fn applied(&mut self, operations: &[Operation]) {
        self.listen(&Expected::of(operations));
        self.tell();
    }

    pub(crate) fn host(&mut self) -> Result<HostFacts, KernelError> {
        facts::host(&mut self.spaces, &self.resolv_conf, &self.before)
    }

    /// Tells of what changed, if anything did.
    pub(crate) fn hear(&mut self) {
        self.listen(&Expected::default());
        if self.resolvers.as_mut().is_some_and(ResolvConf::has_changed) {
            self.noticed.host_changed();
        }
        self.tell();
    }

    fn listen(&mut self, expected: &Expected) {
        self.noticed.read_nft(&mut self.nft, &mut self.spaces, expected, &mut self.buffer);
        self.noticed.read(&mut self.route, &mut self.spaces, expected, &mut self.buffer);
        self.noticed.resolve_pairs(&self.spaces.host().links);
    }

    fn tell(&mut self) {
        while let Some(drift) = self.noticed.take() {
            // Nobody listens any more when the handle is gone.
            let _ended = self.drifts.send(drift);
        }
    }
}
