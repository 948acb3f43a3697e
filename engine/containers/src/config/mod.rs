//! Docker's own words for containers, with Docker's JSON names: what a client sends to create one, what is kept on
//! disk, and what `inspect` and `ps` show. Lists and maps are optional where Docker tells `null` from empty.

mod container;
mod host;
mod network;
mod state;
mod view;
pub(crate) mod wire;

pub use container::{ContainerConfig, HealthConfig};
pub use host::{
    BindOptions, DeviceMapping, DriverConfig, HostConfig, LogConfig, Mount, PortBinding, PortMap, Resources,
    RestartPolicy, ThrottleDevice, TmpfsOptions, Ulimit, VolumeOptions, WeightDevice,
};
pub use network::{EndpointIpamConfig, EndpointSettings, NetworkSettings, NetworkingConfig};
pub use state::{Health, HealthResult, MountPoint, State, Status};
pub use view::{
    CreateBody, Created, ExecInspect, ExecProcessConfig, GraphDriver, Inspect, PathStat, Port, Pruned,
    Summary, SummaryHostConfig, SummaryNetworks, Top, UpdateBody, Updated, WaitError, WaitResult,
};
pub use wire::{Empty, Set};
