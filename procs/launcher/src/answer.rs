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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_of_the_jail_has_a_name_in_the_protocol() {
        let named: Vec<_> = Layer::ALL.into_iter().filter_map(layer).collect();
        assert_eq!(named.len(), Layer::ALL.len());
        let own = [launch::Layer::Landlock, launch::Layer::Seccomp];
        assert_eq!(launch::Layer::ALL.len(), named.len() + own.len());
        for layer in launch::Layer::ALL {
            assert!(named.contains(&layer) != own.contains(&layer), "{layer:?}");
        }
    }
}
