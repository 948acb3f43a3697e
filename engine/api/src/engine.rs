use std::path::PathBuf;

use engine_containers::Containers;
use engine_images::ImageStore;
use engine_volumes::VolumeStore;
use libnetwork_rpc::client::Client;

/// What the API is the face of. Cheap to clone: every handler gets one.
#[derive(Clone)]
pub struct Engine {
    /// Its event bus tells what this crate does to images, networks and volumes too.
    pub containers: Containers,
    pub images: ImageStore,
    pub volumes: VolumeStore,
    /// causewayd.
    pub network: Client,
    /// `STATE/engine`, as `docker info` names it (`DockerRootDir`); the daemon's id is kept in it.
    pub state_dir: PathBuf,
}
