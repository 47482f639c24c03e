//! The router, with a line per request, and a handler for each.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bulkhead_memory::WrittenPages;
use bulkhead_sys::eventfd::Doorbell;
use bulkhead_virtqueue::{QueueSetup, RingAddresses};
use vhost::vhost_user::message::VhostUserProtocolFeatures;

use super::features::{self, Identity};
use super::memory_table::{MOST_REGIONS, MemoryTable};
use super::vring::{Vring, VringState};
use super::{Order, Outcome, Refusal, Session};
use crate::inflight::InflightTable;
use crate::lane::QueueOrder;
use crate::queue::QueueStart;
use crate::wire::{LogPlace, Request, TableShape, VringAddresses};

type Handled = Result<Outcome, Refusal>;

/// A request that is not allowed.
fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Request(reason.into()))
}

impl Session {
    pub(super) fn route(
        &mut self,
        request: Request,
        identity: &Identity,
        orders: &mut Vec<Order>,
    ) -> Handled {
        match request {
            Request::GetFeatures => Ok(Outcome::Number(self.offered)),
            Request::SetFeatures(features) => self.set_features(features),
            Request::GetProtocolFeatures => Ok(Outcome::Number(features::PROTOCOL.bits())),
            Request::SetProtocolFeatures(features) => self.set_protocol_features(features),
            Request::SetOwner => Ok(Outcome::Done),
            Request::ResetOwner => self.reset_owner(orders),
            Request::GetQueueNum => Ok(Outcome::Number(self.vrings.len() as u64)),
            Request::GetMaxMemSlots => Ok(Outcome::Number(MOST_REGIONS as u64)),
            Request::SetMemTable(regions) => self.set_mem_table(regions, orders),
            Request::AddMemReg(region, fd) => {
                if self.memory.is_full() {
                    return refuse("more memory regions than there are slots");
                }
                self.change_memory(self.memory.with(region, &fd)?, orders)
            }
            Request::RemMemReg(region) => self.change_memory(self.memory.without(region)?, orders),
            Request::SetLogBase(place, fd) => self.set_log_base(place, &fd),
            Request::SetVringNum(vring) => self.set_vring_num(vring.index, vring.number),
            Request::SetVringAddr(addresses) => self.set_vring_addr(addresses),
            Request::SetVringBase(vring) => self.set_vring_base(vring.index, vring.number),
            Request::GetVringBase(index) => self.get_vring_base(index, orders),
            Request::SetVringKick(index, fd) => self.set_vring_kick(index, fd, orders),
            Request::SetVringCall(index, fd) => self.set_vring_call(index, fd, orders),
            Request::SetVringErr(index, fd) => self.set_vring_err(index, fd, orders),
            Request::SetVringEnable(index, enable) => self.set_vring_enable(index, enable, orders),
            Request::GetConfig { offset, size } => Ok(get_config(identity, offset, size)),
            // Nothing in our configuration spaces can be written; a write has no effect.
            Request::SetConfig => Ok(Outcome::Done),
            Request::SetBackendReqFd(fd) => self.set_backend_req_fd(fd),
            Request::GetInflightFd(wish) => self.get_inflight_fd(wish),
            Request::SetInflightFd(shape, fd) => self.set_inflight_fd(shape, fd),
        }
    }

    fn any_running(&self) -> bool {
        self.running() > 0
    }

    pub(super) fn acknowledges(&self) -> bool {
        self.protocol & VhostUserProtocolFeatures::REPLY_ACK.bits() != 0
    }

    fn set_features(&mut self, features: u64) -> Handled {
        let surplus = features & !self.offered;
        if surplus != 0 {
            return refuse(format!("features {surplus:#x} were not offered"));
        }
        let changed = self.accepted.unwrap_or(!features) ^ features;
        if self.any_running() && changed & !features::LOG_ALL != 0 {
            return refuse("features change while a queue runs");
        }
        self.accepted = Some(features);
        self.switch_log();
        Ok(Outcome::Done)
    }

    fn set_protocol_features(&mut self, features: u64) -> Handled {
        let surplus = features & !features::PROTOCOL.bits();
        if surplus != 0 {
            return refuse(format!("protocol features {surplus:#x} were not offered"));
        }
        self.protocol = features;
        Ok(Outcome::Done)
    }

    fn reset_owner(&mut self, orders: &mut Vec<Order>) -> Handled {
        self.stop_all(orders);
        Ok(Outcome::Done)
    }

    pub(super) fn stop_all(&mut self, orders: &mut Vec<Order>) -> usize {
        for (index, vring) in self.vrings.iter_mut().enumerate() {
            if vring.state == VringState::Running {
                vring.state = VringState::Stopping;
                orders.push((index as u16, QueueOrder::Stop));
            }
        }
        self.running()
    }

    fn set_mem_table(
        &mut self,
        regions: Vec<(crate::wire::Region, OwnedFd)>,
        orders: &mut Vec<Order>,
    ) -> Handled {
        if regions.len() > MOST_REGIONS {
            return refuse("more memory regions than there are slots");
        }
        self.change_memory(MemoryTable::map(regions)?, orders)
    }

    /// Queues that run move over to the new table, in which their rings must be, too.
    fn change_memory(&mut self, table: MemoryTable, orders: &mut Vec<Order>) -> Handled {
        table.memory().log_writes(self.log_in_force());
        for (index, vring) in self.vrings.iter().enumerate() {
            if vring.state == VringState::Running {
                let setup = self.setup(&table, vring)?;
                orders.push((index as u16, QueueOrder::Remap(table.memory().clone(), setup)));
            }
        }
        self.memory = table;
        Ok(Outcome::Done)
    }

    /// Logging is switched on and off while queues run: that is how a migration begins and ends.
    fn switch_log(&self) {
        self.memory.memory().log_writes(self.log_in_force());
    }

    fn log_in_force(&self) -> Option<Arc<WrittenPages>> {
        let is_wanted = self.accepted.unwrap_or(0) & features::LOG_ALL != 0;
        self.log.clone().filter(|_| is_wanted)
    }

    fn set_log_base(&mut self, place: LogPlace, fd: &OwnedFd) -> Handled {
        let log = WrittenPages::map(fd, place.offset, place.len);
        match log {
            Ok(log) => self.log = Some(Arc::new(log)),
            Err(error) => return refuse(format!("a log of {:#x} bytes: {error}", place.len)),
        }
        self.switch_log();
        Ok(Outcome::Log(place))
    }

    fn setup(&self, table: &MemoryTable, vring: &Vring) -> Result<QueueSetup, Refusal> {
        let Some(at) = vring.addresses else { return refuse("a queue without addresses") };
        let guest = |user_addr| match table.translate(user_addr) {
            Some(addr) => Ok(addr),
            None => refuse(format!("a ring at {user_addr:#x}, which is in no memory region")),
        };
        let addresses = RingAddresses {
            descriptors: guest(at.descriptors)?,
            driver: guest(at.driver)?,
            device: guest(at.device)?,
        };
        let features = self.accepted.unwrap_or(0);
        Ok(QueueSetup {
            size: vring.size,
            addresses,
            event_idx: features & features::EVENT_IDX != 0,
            indirect: features & features::INDIRECT != 0,
        })
    }

    fn vring(&mut self, index: u32) -> Result<&mut Vring, Refusal> {
        let place = usize::try_from(index).ok();
        match place.and_then(|place| self.vrings.get_mut(place)) {
            Some(vring) => Ok(vring),
            None => refuse(format!("there is no queue {index}")),
        }
    }

    /// A queue whose setup may change.
    fn stopped_vring(&mut self, index: u32) -> Result<&mut Vring, Refusal> {
        let vring = self.vring(index)?;
        match vring.state {
            VringState::Stopped => Ok(vring),
            _ => refuse(format!("queue {index} changes while it runs")),
        }
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Handled {
        let most = self.own_table.plan().queue_size;
        let size = match u16::try_from(size) {
            Ok(size) if (1..=most).contains(&size) => size,
            _ => return refuse(format!("queue {index} of {size}, at most {most} were planned")),
        };
        self.stopped_vring(index)?.size = size;
        Ok(Outcome::Done)
    }

    /// A frontend may repeat the addresses of a queue that runs (QEMU does, to switch logging).
    fn set_vring_addr(&mut self, addresses: VringAddresses) -> Handled {
        let index = addresses.index;
        if self.vring(index)?.addresses != Some(addresses) {
            self.stopped_vring(index)?.addresses = Some(addresses);
        }
        Ok(Outcome::Done)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Handled {
        self.stopped_vring(index)?.base = base;
        Ok(Outcome::Done)
    }

    fn get_vring_base(&mut self, index: u32, orders: &mut Vec<Order>) -> Handled {
        let vring = self.vring(index)?;
        // The enable flag goes with the queue: a new start begins disabled again.
        vring.enabled = None;
        if vring.state == VringState::Running {
            vring.state = VringState::Stopping;
            orders.push((index as u16, QueueOrder::Stop));
        }
        Ok(Outcome::Vring(index as u16))
    }

    fn set_vring_kick(
        &mut self,
        index: u8,
        fd: Option<OwnedFd>,
        orders: &mut Vec<Order>,
    ) -> Handled {
        let Some(kick) = fd.map(Doorbell::from_fd) else {
            return refuse("a queue without a kick would have to be polled");
        };
        let order = match self.vring(index.into())?.state {
            VringState::Running => QueueOrder::Kick(kick),
            VringState::Stopping => return refuse("a kick for a queue that is being stopped"),
            VringState::Stopped => QueueOrder::Start(Box::new(self.start(index, kick)?)),
        };
        orders.push((index.into(), order));
        Ok(Outcome::Done)
    }

    fn start(&mut self, index: u8, kick: Doorbell) -> Result<QueueStart, Refusal> {
        let Some(features) = self.accepted else { return refuse("a queue before features") };
        let (memory, table) = (self.memory.memory().clone(), self.table.clone());
        let own_fault = self.own_table.plan().own_fault;
        let vring = self.vrings.get(usize::from(index));
        let Some(vring) = vring else { return refuse(format!("there is no queue {index}")) };
        let setup = self.setup(&self.memory, vring)?;
        let vring = self.vring(index.into())?;
        vring.state = VringState::Running;
        // Without protocol features there is no switch, and queues begin enabled.
        let enabled = vring.enabled.unwrap_or(features & features::PROTOCOL_FEATURES == 0);
        Ok(QueueStart {
            index: index.into(),
            setup,
            packed: features & features::PACKED != 0,
            features,
            memory,
            base: vring.base,
            kick,
            call: vring.call.take(),
            err: vring.err.take(),
            table,
            enabled,
            own_fault,
        })
    }

    fn set_vring_call(
        &mut self,
        index: u8,
        fd: Option<OwnedFd>,
        orders: &mut Vec<Order>,
    ) -> Handled {
        let call = fd.map(Doorbell::from_fd);
        let vring = self.vring(index.into())?;
        match vring.state {
            VringState::Stopped => vring.call = call,
            _ => orders.push((index.into(), QueueOrder::Call(call))),
        }
        Ok(Outcome::Done)
    }

    fn set_vring_err(
        &mut self,
        index: u8,
        fd: Option<OwnedFd>,
        orders: &mut Vec<Order>,
    ) -> Handled {
        let err = fd.map(Doorbell::from_fd);
        let vring = self.vring(index.into())?;
        match vring.state {
            VringState::Stopped => vring.err = err,
            _ => orders.push((index.into(), QueueOrder::Err(err))),
        }
        Ok(Outcome::Done)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool, orders: &mut Vec<Order>) -> Handled {
        let vring = self.vring(index)?;
        vring.enabled = Some(enable);
        if vring.state == VringState::Running {
            orders.push((index as u16, QueueOrder::Enable(enable)));
        }
        Ok(Outcome::Done)
    }

    fn set_backend_req_fd(&mut self, fd: OwnedFd) -> Handled {
        self.requests = Some(fd);
        Ok(Outcome::Done)
    }

    /// A frontend that asks for a table begins anew: what the old one says is forgotten.
    fn get_inflight_fd(&mut self, wish: TableShape) -> Handled {
        if self.any_running() {
            return refuse("a new in-flight table while a queue runs");
        }
        let Some(shape) = self.own_table.shape(wish) else {
            let (queues, size) = (wish.queues, wish.queue_size);
            return refuse(format!("an in-flight table for {queues} queues of {size}"));
        };
        self.own_table.reset();
        Ok(Outcome::Inflight(shape))
    }

    /// Usually the frontend hands our own table back. Another one is taken as well if it cannot
    /// shrink and has this device's shape: a foreign frontend that outlived our instance still has
    /// the table of the one before.
    fn set_inflight_fd(&mut self, shape: TableShape, fd: OwnedFd) -> Handled {
        if self.any_running() {
            return refuse("another in-flight table while a queue runs");
        }
        self.own_table.accepts(shape)?;
        let own = self.own_table.is(std::os::fd::AsFd::as_fd(&fd)).unwrap_or(false);
        self.table = Some(match own {
            true => self.own_table.clone(),
            false => Arc::new(InflightTable::map(self.own_table.plan(), fd)?),
        });
        Ok(Outcome::Done)
    }
}

/// An empty answer refuses (vhost-user text).
fn get_config(identity: &Identity, offset: u32, size: u32) -> Outcome {
    Outcome::Config { offset, bytes: identity.config(offset, size).unwrap_or_default() }
}
