//! The files that a request names: made or found, opened for writing, locked.

use bulkhead_protocol::block::{LayerFormat, TargetPlan};
use bulkhead_protocol::block_control::FileSpec;
use bulkhead_protocol::session::Refusal;
use bulkhead_protocol::spec::{CacheMode, Part, ServerSpec};

use crate::images::chain::{Layer, Place};
use crate::images::fresh::Fresh;
use crate::images::remote::{Remote, refuse_too_many};
use crate::images::take::Wanted;
use crate::live::Instance;
use crate::open::Identity;
use crate::refusal::{refuse, refuse_path};

/// Clusters that qcow2 has (`docs/interop/qcow2.txt`: cluster_bits 9 to 21).
const CLUSTERS: std::ops::RangeInclusive<u32> = 512..=2 << 20;

/// A file for a snapshot or a job.
#[derive(Debug)]
pub struct Target {
    /// Its layer.
    pub layer: Layer,
    /// It was made, and goes away unless the command succeeds.
    pub fresh: Option<Fresh>,
    /// How the block-layer gets it.
    pub plan: TargetPlan,
}

impl Instance {
    /// Takes the file of a request for `disk`. A fresh raw file gets `size` bytes.
    pub(super) fn take_target(
        &mut self,
        option: &str,
        disk: usize,
        file: &FileSpec,
        size: u64,
    ) -> Result<Target, Refusal> {
        check_cluster(option, file.cluster_size)?;
        if let Some(server) = &file.server {
            return self.take_export(option, disk, file, server);
        }
        let cache = self.image(disk).map_or(CacheMode::Writeback, |image| image.service.cache);
        let fresh = (!file.existing).then(|| Fresh::make(option, &file.path)).transpose()?;
        let wanted = Wanted { option, path: &file.path, cache, read_only: false };
        let locked = wanted.take(&|identity| self.user_of(identity))?;
        if fresh.is_some() && file.format == LayerFormat::Raw {
            let sized = nix::unistd::ftruncate(&locked.file, size.try_into().unwrap_or(i64::MAX));
            sized.map_err(|error| refuse_path(option, &file.path, &error.into()))?;
        }
        let number = self.image_mut(disk).map_or(0, |image| image.chain.number());
        let (path, format) = (file.path.clone(), file.format);
        let (data_file, part, journal) = (None, Part::default(), None);
        let (place, secret) = (Place::File(locked), None);
        let mut layer = Layer { number, path, format, place, data_file, secret, part, journal };
        layer.make_journal().map_err(|error| refuse_path(option, &file.path, &error))?;
        let create = fresh.is_some().then_some(file.cluster_size);
        let plan = TargetPlan { named: layer.named(), create, cache, remote: None };
        Ok(Target { layer, fresh, plan })
    }

    /// The same on a server, where nothing is made.
    fn take_export(
        &mut self,
        option: &str,
        disk: usize,
        file: &FileSpec,
        server: &ServerSpec,
    ) -> Result<Target, Refusal> {
        refuse_too_many(option, self.connections(disk), server)?;
        let mut remote = Remote::new(option, &file.path, server)?;
        let socket = remote.prepare();
        socket.map_err(|error| refuse_path(option, &file.path, &error))?;
        let number = self.image_mut(disk).map_or(0, |image| image.chain.number());
        let plan = Some(Box::new(remote.plan(number)));
        let (path, format, place) =
            (file.path.clone(), file.format, Place::Remote(Box::new(remote)));
        let (data_file, secret, part, journal) = (None, None, Part::default(), None);
        let mut layer = Layer { number, path, format, place, data_file, secret, part, journal };
        layer.make_journal().map_err(|error| refuse_path(option, &file.path, &error))?;
        let (named, cache) = (layer.named(), CacheMode::Writeback);
        let plan = TargetPlan { named, create: None, cache, remote: plan };
        Ok(Target { layer, fresh: None, plan })
    }

    /// Who of this instance uses a file. Other programs are not looked for: a sealed supervisor may not.
    fn user_of(&self, identity: Identity) -> String {
        for disk in 0..self.disks.len() {
            let layers = self.image(disk).map_or(&[][..], |image| image.chain.layers());
            let jobs = self.disks.get(disk).map_or(&[][..], |disk| &disk.jobs);
            let targets = jobs.iter().filter_map(|job| job.target.as_ref());
            if layers.iter().chain(targets).any(|layer| layer.is(identity)) {
                let id = self.planned(disk).map_or("", |disk| &disk.id);
                return format!("disk {id} of this very instance");
            }
        }
        "another program".to_owned()
    }
}

fn check_cluster(option: &str, cluster: u32) -> Result<(), Refusal> {
    if cluster == 0 || cluster.is_power_of_two() && CLUSTERS.contains(&cluster) {
        return Ok(());
    }
    let value = format!("cluster-size={cluster}");
    let remedy = "give a power of two from 512 to 2M";
    Err(refuse(option, value, "there are no such clusters", remedy))
}
