//! Docker's own words for containers, with Docker's JSON names: what a client sends to create one, what is kept on
//! disk, and what `inspect` and `ps` show. Lists and maps are optional where Docker tells `null` from empty.

mod container;
mod host;
mod network;
pub(crate) mod port_bindings;
pub(crate) mod port_run;
pub(crate) mod port_set;
mod state;
mod view;
pub(crate) mod wire;

pub use container::{ContainerConfig, HealthConfig};
pub use host::{
    BindOptions, DeviceMapping, DriverConfig, HostConfig, LogConfig, Mount, PortBinding, PortMap, Resources,
    RestartPolicy, ThrottleDevice, TmpfsOptions, Ulimit, VolumeOptions, WeightDevice,
};
pub use network::{EndpointIpamConfig, EndpointSettings, NetworkSettings, NetworkingConfig};
pub use port_bindings::PortBindings;
pub use port_set::PortSet;
pub use state::{Health, HealthResult, MountPoint, State, Status};
pub use view::{
    CreateBody, Created, ExecInspect, ExecProcessConfig, GraphDriver, Inspect, PathStat, Port, PortsBody,
    Pruned, PublishedPorts, PublishedRange, Summary, SummaryHostConfig, SummaryNetworks, Top, UpdateBody,
    Updated, WaitError, WaitResult,
};
pub use wire::{Empty, Set};

#[cfg(test)]
mod tests {
    use super::*;

    fn host(json: &str) -> Result<HostConfig, String> {
        let body = format!("{{\"Image\":\"x\",\"HostConfig\":{json}}}");
        match serde_json::from_str::<CreateBody>(&body) {
            Ok(body) => Ok(body.host_config.unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn null_is_the_zero_value_and_a_wrong_type_is_an_error_also_in_flattened_structs() {
        assert_eq!(host(r#"{"Memory":null,"ShmSize":null,"Unknown":[1]}"#), Ok(HostConfig::default()));
        assert_eq!(host(r#"{"Memory":7}"#).unwrap().resources.memory, 7);
        assert!(host(r#"{"ShmSize":"x"}"#).is_err());
        assert!(host(r#"{"Memory":"x"}"#).is_err());
    }

    #[test]
    fn what_docker_shows_for_a_bare_container_is_what_is_written() {
        let json = serde_json::to_value(HostConfig::default()).unwrap();
        for name in
            ["Binds", "PortBindings", "CapAdd", "Dns", "ExtraHosts", "Devices", "Ulimits", "PidsLimit"]
        {
            assert_eq!(json[name], serde_json::Value::Null, "{name}");
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "Init", "KernelMemory"] {
            assert!(json.get(name).is_none(), "{name}");
        }
        let json = serde_json::to_value(ContainerConfig::default()).unwrap();
        assert_eq!(json["Cmd"], serde_json::Value::Null);
        assert!(json.get("ExposedPorts").is_none() && json.get("StopSignal").is_none());
    }

    #[test]
    fn a_command_may_be_one_word() {
        let body: CreateBody = serde_json::from_str(r#"{"Cmd":"true","Entrypoint":["a","b"]}"#).unwrap();
        assert_eq!(body.config.cmd.unwrap(), ["true"]);
        assert_eq!(body.config.entrypoint.unwrap(), ["a", "b"]);
    }
}
