//! What became of a birth, in the words of the protocol.

use bulkhead_jail::{Failure, Layer, LayerState, Outcome};
use bulkhead_protocol::launch::{self, LauncherEvent};

/// A child runs.
pub fn started(ticket: u64, outcome: &Outcome) -> LauncherEvent {
    let layers = outcome.layers.iter();
    LauncherEvent::Started {
        ticket,
        pid: outcome.born.pid,
        uid: outcome.uid,
        layers: layers.filter_map(|(name, state)| Some((layer(*name)?, told(state)))).collect(),
    }
}

/// A child could not be started.
pub fn failed(ticket: u64, failure: &Failure) -> LauncherEvent {
    LauncherEvent::Failed {
        ticket,
        pid: failure.born.as_ref().map_or(0, |born| born.pid),
        layer: failure.layer.and_then(layer),
        reason: failure.reason.clone(),
    }
}

/// A child was refused before anything was tried.
pub fn refused(ticket: u64, reason: String) -> LauncherEvent {
    LauncherEvent::Failed { ticket, pid: 0, layer: None, reason }
}

fn layer(layer: Layer) -> Option<launch::Layer> {
    launch::Layer::from_name(layer.name())
}

fn told(state: &LayerState) -> launch::LayerState {
    match state {
        LayerState::Enforced => launch::LayerState::Enforced,
        LayerState::NotApplicable(why) => launch::LayerState::NotApplicable(why.clone()),
        LayerState::Weakened(why) => launch::LayerState::Weakened(why.clone()),
    }
}
