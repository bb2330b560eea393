//! The ports that people and n8n use: they stay the same after a restart, because links and hooks contain them.

use std::fs;

use anyhow::{Context, Result};

use crate::{Profile, Program, Replica, ports, project::write_private};

/// The file in the profile's folder that keeps them.
const FILE: &str = "ports";

/// The ports of the gateway and of the collector's push address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FacePorts {
    /// The port of the dashboard and the API. `None`: the kept one, or the usual one.
    pub gateway: Option<u16>,
    /// The port that sources push executions to. `None`: the kept one, or the usual one.
    pub push: Option<u16>,
}

impl FacePorts {
    /// The services' defaults.
    pub const USUAL: Self = Self { gateway: Some(8080), push: Some(8081) };

    /// Chooses the ports of this start, and keeps them: the requested ones, or those of the last start, or the usual ones. If
    /// one is taken, the next free one.
    pub(crate) fn settle(self, profile: &Profile) -> Result<Self> {
        let kept = Self::kept(profile)?;
        // Otherwise the gateway could take the kept push port while its own is taken for the moment.
        let reserved = self.push.or(kept.push).or(Self::USUAL.push);
        let gateway = settled(self.gateway.or(kept.gateway).or(Self::USUAL.gateway), reserved)?;
        let push = settled(reserved, gateway)?;
        let ports = Self { gateway, push };
        write_private(&profile.folder().join(FILE), &ports.to_text())?;
        Ok(ports)
    }

    /// Those of the last start, if there was one.
    pub fn kept(profile: &Profile) -> Result<Self> {
        let path = profile.folder().join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    pub(crate) fn of(self, replica: Replica) -> Option<u16> {
        match replica {
            _ if replica == Program::Gateway.into() => self.gateway,
            _ if replica == Program::Collector.into() => self.push,
            _ => None,
        }
    }

    fn to_text(self) -> String {
        let line =
            |name: &str, port: Option<u16>| port.map_or(String::new(), |port| format!("{name}={port}\n"));
        line("gateway", self.gateway) + &line("push", self.push)
    }

    /// A damaged line is ignored: another port is better than no start.
    fn parse(text: &str) -> Self {
        let port = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).and_then(|(_, port)| port.trim().parse().ok())
        };
        Self { gateway: port("gateway"), push: port("push") }
    }
}

fn settled(wanted: Option<u16>, other: Option<u16>) -> Result<Option<u16>> {
    wanted.map(|wanted| ports::free_from(wanted, other)).transpose()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::Project;

    fn profile() -> (tempfile::TempDir, Profile) {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile::open(&Project::at(folder.path()), "up").unwrap();
        (folder, profile)
    }

    #[test]
    fn the_ports_of_the_last_start_are_used_again() {
        let (_folder, profile) = profile();
        let [gateway, push] = [ports::free().unwrap(), ports::free().unwrap()];
        let asked = FacePorts { gateway: Some(gateway), push: Some(push) };
        assert_eq!(asked.settle(&profile).unwrap(), asked);
        assert_eq!(FacePorts::default().settle(&profile).unwrap(), asked, "nothing is requested: as before");

        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, push)).unwrap();
        let moved = FacePorts::default().settle(&profile).unwrap();
        assert_eq!(moved.gateway, asked.gateway);
        assert!(moved.push > asked.push);
        drop(taken);
        assert_eq!(FacePorts::default().settle(&profile).unwrap(), moved, "n8n knows this one now");
    }

    #[test]
    fn the_gateway_does_not_take_the_push_port() {
        let (_folder, profile) = profile();
        let port = ports::free().unwrap();
        let asked = FacePorts { gateway: Some(port), push: Some(port) };
        let settled = asked.settle(&profile).unwrap();
        assert_ne!(settled.gateway, settled.push);
    }

    #[test]
    fn a_damaged_file_is_ignored() {
        let ports = FacePorts { gateway: Some(8080), push: Some(8083) };
        assert_eq!(FacePorts::parse(&ports.to_text()), ports);
        assert_eq!(FacePorts::parse("gateway=no\npush=70000\n\u{0}"), FacePorts::default());
    }
}
