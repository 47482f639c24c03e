//! All virtio devices: which of them a command, a socket or a deadline means.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bulkhead_machine::pci::PciHost;
use bulkhead_protocol::core::{CoreEvent, DevicePlan};
use bulkhead_sys::poller::{Interest, Poller, Token};

use crate::device::{Device, Surroundings};

/// Tokens of backends' sockets begin here, two for each device.
pub const FIRST_TOKEN: Token = 16;

/// The devices, in slot order from slot 1.
pub struct Devices {
    plans: Vec<DevicePlan>,
    around: Surroundings,
    pci: Arc<PciHost>,
    devices: Vec<Device>,
}

impl Devices {
    /// Planned devices, none of them there yet.
    pub fn new(plans: Vec<DevicePlan>, around: Surroundings, pci: Arc<PciHost>) -> Self {
        Self { plans, around, pci, devices: Vec::new() }
    }

    /// A device's descriptors: it takes the next slot.
    pub fn add(&mut self, index: u16, fds: Vec<OwnedFd>) -> anyhow::Result<()> {
        ensure!(usize::from(index) == self.devices.len(), "device {index} is out of turn");
        let plan = self
            .plans
            .get(usize::from(index))
            .with_context(|| format!("there is no device {index}"))?;
        let device = Device::new(index, plan, fds, &self.around)?;
        self.pci.plug(device.function())?;
        self.devices.push(device);
        Ok(())
    }

    /// A fresh backend of a device.
    pub fn connect(
        &mut self,
        index: u16,
        fds: Vec<OwnedFd>,
        poller: &Poller,
        now: Instant,
    ) -> anyhow::Result<()> {
        let device = self.get(index)?;
        device.connect(fds, now)?;
        // The poller forgets a socket when it is closed: nobody else holds it.
        for (socket, token) in device.sockets().zip(tokens(index)) {
            poller.add(socket, token, Interest::Read).context("watch a backend")?;
        }
        Ok(())
    }

    /// A device's backend is dead and reaped.
    pub fn disconnect(&mut self, index: u16) -> anyhow::Result<()> {
        self.get(index)?.disconnect();
        Ok(())
    }

    /// A device's backend will not come back soon.
    pub fn degrade(&mut self, index: u16) -> anyhow::Result<()> {
        self.get(index)?.degrade();
        Ok(())
    }

    /// Whether the guest can be shown everything that was planned.
    pub fn are_known(&self) -> bool {
        self.devices.len() == self.plans.len() && self.devices.iter().all(Device::is_known)
    }

    /// Whether no backend touches guest memory.
    pub fn are_at_rest(&self) -> bool {
        self.devices.iter().all(Device::is_at_rest)
    }

    /// When [`Devices::advance`] is due although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        self.devices.iter().filter_map(Device::deadline).min()
    }

    /// Does what can be done now for the devices that `news` means.
    pub fn advance(&mut self, news: News, now: Instant, tell: &mut Vec<CoreEvent>) {
        for (index, device) in (0..).zip(&mut self.devices) {
            let is_due = match news {
                News::Anything => true,
                News::Socket(token) => tokens(index).contains(&token),
                News::Time => device.deadline().is_some_and(|deadline| deadline <= now),
            };
            if is_due {
                device.advance(now, tell);
            }
        }
    }

    fn get(&mut self, index: u16) -> anyhow::Result<&mut Device> {
        match self.devices.get_mut(usize::from(index)) {
            Some(device) => Ok(device),
            None => bail!("there is no device {index}"),
        }
    }
}

/// What happened that devices have to look at.
#[derive(Debug, Clone, Copy)]
pub enum News {
    /// A driver or the supervisor wants something of one of them.
    Anything,
    /// A backend's socket.
    Socket(Token),
    /// Time has passed.
    Time,
}

/// The tokens of a device's sockets: vhost-user, and the backend's own requests.
fn tokens(index: u16) -> [Token; 2] {
    let first = FIRST_TOKEN + 2 * Token::from(index);
    [first, first + 1]
}
