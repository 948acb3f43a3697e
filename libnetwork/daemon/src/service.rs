//! The gRPC service: parses, asks the core, and answers.
//!
//! Owns no task; tonic runs one per call. A call whose client went away is dropped, while the command that it sent is
//! carried out all the same: who asks again finds it done.

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use dns_server::DnsServer;
use libnetwork_core::{Error, Handle, chain};
use libnetwork_ipam::PortError;
use libnetwork_model::{ErrorKind, HasKind, Intent, SandboxId};
use libnetwork_rpc::{status, v1, v1::libnetwork_server::Libnetwork};
use tokio_stream::{Stream, StreamExt, wrappers::BroadcastStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    lookups,
    reply::{self, Replies},
    request, sockets,
};

pub(crate) struct Service {
    core: Handle,
    names: DnsServer,
    netns: Arc<Path>,
    backend: (&'static str, String),
    /// Ends the watchers' streams, which would otherwise keep the server from ending.
    end: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(
        core: Handle,
        names: DnsServer,
        netns: Arc<Path>,
        backend: (&'static str, String),
        end: CancellationToken,
    ) -> Self {
        Self { core, names, netns, backend, end }
    }

    fn with<T>(&self, intent: &Intent, make: impl FnOnce(Replies<'_>) -> T) -> T {
        make(Replies { intent, drivers: self.core.drivers(), host: &self.core.host(), netns: &self.netns })
    }

    fn sandbox(&self, intent: &Intent, id: &SandboxId) -> Answer<v1::Sandbox> {
        let missing = || failed(Error::SandboxNotFound { id: id.to_string() });
        let sandbox = intent.sandbox(id).ok_or_else(missing)?;
        Ok(Response::new(self.with(intent, |replies| replies.sandbox(sandbox))))
    }
}

#[tonic::async_trait]
impl Libnetwork for Service {
    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Answer<v1::Info> {
        let host = self.core.host();
        let (publish_backend, publish_reason) = self.backend.clone();
        Ok(Response::new(v1::Info {
            version: env!("CARGO_PKG_VERSION").into(),
            publish_backend: publish_backend.into(),
            publish_reason,
            drivers: self.core.drivers().names().map(str::to_owned).collect(),
            revision: self.core.intent().0,
            mtu: host.mtu,
            uplinks: host
                .uplinks
                .iter()
                .map(|(name, uplink)| v1::Uplink {
                    name: name.clone(),
                    addresses: uplink.addresses.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            resolvers: host.resolvers.iter().map(ToString::to_string).collect(),
            search: host.search.clone(),
        }))
    }

    async fn create_network(&self, request: Request<v1::CreateNetworkRequest>) -> Answer<v1::Network> {
        let asked = request::create_network(request.into_inner())?;
        let (intent, id) = self.core.create_network(asked).await.map_err(failed)?;
        let network = intent
            .network(&id)
            .ok_or_else(|| failed(Error::NetworkNotFound { reference: id.to_string() }))?;
        Ok(Response::new(self.with(&intent, |replies| replies.network(network))))
    }

    async fn remove_network(
        &self,
        request: Request<v1::RemoveNetworkRequest>,
    ) -> Answer<v1::RemoveNetworkReply> {
        self.core.remove_network(request.into_inner().id).await.map_err(failed)?;
        Ok(Response::new(v1::RemoveNetworkReply {}))
    }

    async fn list_networks(&self, _: Request<v1::ListNetworksRequest>) -> Answer<v1::ListNetworksReply> {
        let (_, intent) = self.core.intent();
        let networks = self.with(&intent, |replies| replies.networks());
        Ok(Response::new(v1::ListNetworksReply { networks }))
    }

    async fn get_network(&self, request: Request<v1::GetNetworkRequest>) -> Answer<v1::Network> {
        let (_, intent) = self.core.intent();
        let v1::GetNetworkRequest { reference, brief } = request.into_inner();
        let network = libnetwork_core::resolve(&intent, &reference).map_err(failed)?;
        Ok(Response::new(self.with(&intent, |replies| match brief {
            true => replies.brief(network),
            false => replies.network(network),
        })))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<v1::Sandbox> {
        let asked = request::join(request.into_inner())?;
        let id = asked.id.clone();
        let intent = settled(self.core.join(asked).await).await?;
        self.sandbox(&intent, &id)
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveReply> {
        let message = request.into_inner();
        self.core.leave(request::sandbox_id(&message.id)?, message.keep).await.map_err(failed)?;
        Ok(Response::new(v1::LeaveReply {}))
    }

    async fn reserve(&self, request: Request<v1::ReserveRequest>) -> Answer<v1::ReserveReply> {
        let asked = request::reserve(request.into_inner())?;
        let id = asked.sandbox.clone();
        let intent = self.core.reserve(asked).await.map_err(failed)?;
        let kept = intent.reservations_of(&id).map(|r| r.address.to_string()).collect();
        Ok(Response::new(v1::ReserveReply { kept }))
    }

    async fn set_network(&self, request: Request<v1::SetNetworkRequest>) -> Answer<v1::Network> {
        let v1::SetNetworkRequest { reference, settings } = request.into_inner();
        let settings = settings.into_iter().collect();
        let (intent, id) = settled(self.core.set_network(reference, settings).await).await?;
        let missing = || failed(Error::NetworkNotFound { reference: id.to_string() });
        let network = intent.network(&id).ok_or_else(missing)?;
        Ok(Response::new(self.with(&intent, |replies| replies.network(network))))
    }

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Answer<v1::Sandbox> {
        let message = request.into_inner();
        let id = request::sandbox_id(&message.sandbox_id)?;
        let spec = message.endpoint.ok_or_else(|| status(ErrorKind::Invalid, "the endpoint is missing"))?;
        let intent = settled(self.core.connect(id.clone(), request::endpoint(spec)?).await).await?;
        self.sandbox(&intent, &id)
    }

    async fn disconnect(&self, request: Request<v1::DisconnectRequest>) -> Answer<v1::Sandbox> {
        let message = request.into_inner();
        let id = request::sandbox_id(&message.sandbox_id)?;
        let intent = settled(self.core.disconnect(id.clone(), message.network).await).await?;
        self.sandbox(&intent, &id)
    }

    async fn rename(&self, request: Request<v1::RenameRequest>) -> Answer<v1::Sandbox> {
        let message = request.into_inner();
        let id = request::sandbox_id(&message.sandbox_id)?;
        let intent = self.core.rename(id.clone(), message.name).await.map_err(failed)?;
        self.sandbox(&intent, &id)
    }

    async fn set_ports(&self, request: Request<v1::SetPortsRequest>) -> Answer<v1::Sandbox> {
        let message = request.into_inner();
        let id = request::sandbox_id(&message.sandbox_id)?;
        let ports = request::ports(&message.ports)?;
        let intent = settled(self.core.set_ports(id.clone(), ports).await).await?;
        self.sandbox(&intent, &id)
    }

    async fn set_openings(&self, request: Request<v1::SetOpeningsRequest>) -> Answer<v1::Sandbox> {
        let message = request.into_inner();
        let id = request::sandbox_id(&message.sandbox_id)?;
        let openings = request::openings(&message.openings)?;
        let intent = self.core.set_openings(id.clone(), message.network, openings).await.map_err(failed)?;
        self.sandbox(&intent, &id)
    }

    async fn get_ports(&self, request: Request<v1::GetPortsRequest>) -> Answer<v1::GetPortsReply> {
        let id = request::sandbox_id(&request.into_inner().sandbox_id)?;
        let counted = self.core.figures(id).await.map_err(failed)?;
        let ports = counted.iter().map(|(port, figures)| v1::PublishedPort {
            packets: figures.map(|f| f.packets),
            bytes: figures.map(|f| f.bytes),
            open_flows: figures.map(|f| f.open_flows),
            refusals: figures.map(|f| f.refusals),
            ..libnetwork_rpc::port_to_v1(port)
        });
        Ok(Response::new(v1::GetPortsReply { ports: ports.collect() }))
    }

    async fn ask_firewall(&self, request: Request<v1::AskFirewallRequest>) -> Answer<v1::AskFirewallReply> {
        let v1::AskFirewallRequest { ports, networks } = request.into_inner();
        let wishes = request::ports(&ports)?;
        let denied = self.core.denied(&wishes, &networks).await.map_err(failed)?;
        let denials = denied.into_iter().map(|port| port.message).collect();
        Ok(Response::new(v1::AskFirewallReply { denials }))
    }

    async fn list_sandboxes(&self, _: Request<v1::ListSandboxesRequest>) -> Answer<v1::ListSandboxesReply> {
        let (_, intent) = self.core.intent();
        let sandboxes = self.with(&intent, |r| intent.sandboxes().map(|s| r.sandbox(s)).collect());
        Ok(Response::new(v1::ListSandboxesReply { sandboxes }))
    }

    async fn query_name(&self, request: Request<v1::QueryNameRequest>) -> Answer<v1::Lookup> {
        let v1::QueryNameRequest { sandbox, name, r#type } = request.into_inner();
        let (_, intent) = self.core.intent();
        let id = lookups::sandbox(&intent, &sandbox)?;
        let kind = if r#type.is_empty() { "A" } else { &r#type };
        let lookup = self.names.query(&id, &name, kind).await.map_err(lookups::refused)?;
        Ok(Response::new(lookups::message(&lookup)))
    }

    type WatchLookupsStream = Pin<Box<dyn Stream<Item = Result<v1::Lookup, Status>> + Send>>;

    async fn watch_lookups(
        &self,
        request: Request<v1::WatchLookupsRequest>,
    ) -> Answer<Self::WatchLookupsStream> {
        let stream = lookups::watch(self.names.lookups(), request.into_inner().sandbox);
        Ok(Response::new(Box::pin(until(stream.map(Ok), self.end.clone()))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let events = BroadcastStream::new(self.core.watch()).map(|event| match event {
            Ok(event) => Ok(reply::event(event)),
            // What was missed is not told again: the watcher has to look at everything anew.
            Err(_) => Err(status(ErrorKind::Unavailable, "too slow: events were missed")),
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ready = tokio_stream::once(Ok(reply::ready(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))));
        let end = self.end.clone();
        let stream = until(ready.chain(events), end);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// The stream until the token is cancelled.
fn until<S: Stream + Send>(stream: S, end: CancellationToken) -> impl Stream<Item = S::Item> + Send {
    let end = end.cancelled_owned();
    let ended = futures_util::stream::once(end).map(|()| None);
    futures_util::stream::select(stream.map(Some), ended).take_while(Option::is_some).filter_map(|item| item)
}

/// What came of a command that settles ports, with the process named that has one which was asked for.
async fn settled<T>(result: Result<T, Error>) -> Result<T, Status> {
    let error = match result {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let Error::Port(PortError::Busy { protocol, host_ip, port, .. }) = error else {
        return Err(failed(error));
    };
    let look = move || sockets::holder(protocol, host_ip, port);
    let holder = tokio::task::spawn_blocking(look).await.ok().flatten();
    Err(match holder {
        Some(holder) => status(error.kind(), format!("{}: {holder} has {port}/{protocol}", chain(&error))),
        None => failed(error),
    })
}

fn failed(error: Error) -> Status {
    status(error.kind(), chain(&error))
}
