use super::*;
use proptest::prelude::*;

fn running() -> Fence {
    let mut fence = Fence::new();
    assert!(fence.client_waits().is_empty());
    assert_eq!(fence.server_waits(), [Action::MakeRings(1), Action::PlanServer(1)]);
    assert_eq!(fence.disk_is_known(), [Action::PlanClient(1)]);
    fence
}

#[test]
fn a_client_alone_waits_for_the_servers_drain_and_gets_fresh_rings() {
    let mut fence = running();
    assert_eq!(fence.client_reaped(), [Action::DetachServer]);
    assert!(fence.client_waits().is_empty(), "not before the drain");
    let fresh = [Action::MakeRings(2), Action::AttachServer(2), Action::PlanClient(2)];
    assert_eq!(fence.server_detached(), fresh);
}

#[test]
fn a_drain_that_ends_before_the_successor_waits_is_remembered() {
    let mut fence = running();
    fence.client_reaped();
    assert!(fence.server_detached().is_empty());
    assert_eq!(
        fence.client_waits(),
        [Action::MakeRings(2), Action::AttachServer(2), Action::PlanClient(2)]
    );
}

#[test]
fn a_server_alone_gets_fresh_rings_and_its_client_too() {
    let mut fence = running();
    assert!(fence.server_reaped().is_empty());
    assert_eq!(
        fence.server_waits(),
        [Action::MakeRings(2), Action::PlanServer(2), Action::ReplaceClient(2)]
    );
}

#[test]
fn when_both_are_dead_the_server_comes_first() {
    for server_dies_first in [true, false] {
        let mut fence = running();
        if server_dies_first {
            assert!(fence.server_reaped().is_empty());
            assert!(fence.client_reaped().is_empty(), "no server to detach");
        } else {
            assert_eq!(fence.client_reaped(), [Action::DetachServer]);
            fence.server_reaped();
        }
        assert!(fence.client_waits().is_empty());
        assert_eq!(
            fence.server_waits(),
            [Action::MakeRings(2), Action::PlanServer(2), Action::PlanClient(2)]
        );
    }
}

#[test]
fn a_server_that_dies_while_it_drains_has_nothing_left_to_drain() {
    let mut fence = running();
    fence.client_reaped();
    fence.client_waits();
    fence.server_reaped();
    assert!(fence.server_detached().is_empty(), "a stale answer means nothing");
    assert_eq!(
        fence.server_waits(),
        [Action::MakeRings(2), Action::PlanServer(2), Action::PlanClient(2)]
    );
}

#[test]
fn a_client_that_breaks_the_ring_is_condemned_and_its_successor_needs_no_drain() {
    let mut fence = running();
    assert_eq!(fence.client_at_fault(), [Action::CondemnClient]);
    assert!(fence.client_reaped().is_empty());
    assert_eq!(
        fence.client_waits(),
        [Action::MakeRings(2), Action::AttachServer(2), Action::PlanClient(2)]
    );
}

/// The world as it really is, to hold the fence against: which processes live, and whose requests a
/// server may still perform.
#[derive(Debug, Default)]
struct World {
    server: Option<u32>,
    client: Option<u32>,
    next: u32,
    server_waits: bool,
    client_waits: bool,
    draining: bool,
    /// Client whose requests the server may hold.
    performing: Option<u32>,
    server_of_rings: std::collections::HashMap<Incarnation, u32>,
    client_of_rings: std::collections::HashMap<Incarnation, u32>,
    made: Incarnation,
    disk_known: bool,
}

impl World {
    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::MakeRings(rings) => {
                    assert_eq!(rings, self.made + 1);
                    self.made = rings;
                }
                Action::PlanServer(rings) => {
                    assert!(std::mem::take(&mut self.server_waits));
                    self.give_server(rings);
                }
                Action::AttachServer(rings) => {
                    assert!(self.performing.is_none() && !self.draining);
                    self.give_server(rings);
                }
                Action::PlanClient(rings) => {
                    assert!(std::mem::take(&mut self.client_waits) && self.disk_known);
                    self.give_client(rings);
                }
                Action::ReplaceClient(rings) => {
                    assert!(!self.client_waits);
                    self.give_client(rings);
                }
                Action::DetachServer => self.draining = true,
                Action::CondemnClient => self.client = None,
            }
        }
    }

    fn give_server(&mut self, rings: Incarnation) {
        let server = self.server.expect("a living server");
        assert_eq!(rings, self.made);
        assert!(self.server_of_rings.insert(rings, server).is_none());
    }

    fn give_client(&mut self, rings: Incarnation) {
        let client = self.client.expect("a living client");
        assert!(self.client_of_rings.insert(rings, client).is_none());
        assert_eq!(self.server_of_rings.get(&rings).copied(), self.server);
        assert!(
            self.performing.is_none_or(|old| old == client),
            "requests of a dead client may still land"
        );
        self.performing = Some(client);
    }

    fn step(&mut self, fence: &mut Fence, choice: u8) {
        let actions = match choice {
            0 if self.server.is_none() => {
                self.next += 1;
                self.server = Some(self.next);
                self.server_waits = true;
                fence.server_waits()
            }
            1 if self.client.is_none() => {
                self.next += 1;
                self.client = Some(self.next);
                self.client_waits = true;
                fence.client_waits()
            }
            2 if self.server.is_some() => {
                self.server = None;
                (self.server_waits, self.draining, self.performing) = (false, false, None);
                fence.server_reaped()
            }
            3 if self.client.is_some() => {
                self.client = None;
                self.client_waits = false;
                fence.client_reaped()
            }
            4 if self.draining => {
                (self.draining, self.performing) = (false, None);
                fence.server_detached()
            }
            5 if self.server.is_some() && !self.server_waits => {
                self.disk_known = true;
                fence.disk_is_known()
            }
            6 if !self.draining && self.performing.is_some() && self.performing == self.client => {
                self.performing = None;
                let actions = fence.client_at_fault();
                self.carry_out(actions);
                fence.client_reaped()
            }
            _ => Vec::new(),
        };
        self.carry_out(actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_order_of_deaths_lets_an_old_request_land_after_its_successor(
        choices in proptest::collection::vec(0u8..7, 1..60),
    ) {
        let (mut fence, mut world) = (Fence::new(), World::default());
        for choice in choices {
            world.step(&mut fence, choice);
        }
        // Whatever happened, the disk serves again once both processes are there and drained.
        for choice in [4, 0, 5, 1, 4] {
            world.step(&mut fence, choice);
        }
        let client = world.client.expect("a client");
        prop_assert!(!world.client_waits && world.performing == Some(client));
    }
}

#[test]
fn a_client_that_joins_a_serving_server_gets_rings_at_once_and_leaves_nothing_behind() {
    let mut fence = Fence::joining(true, true);
    let fresh = [Action::MakeRings(1), Action::AttachServer(1), Action::PlanClient(1)];
    assert_eq!(fence.client_waits(), fresh);
    assert!(!fence.is_apart());
    assert_eq!(fence.client_reaped(), [Action::DetachServer]);
    assert!(fence.client_leaves().is_empty(), "it is detached already");
    assert!(fence.server_detached().is_empty() && fence.is_apart());
}

#[test]
fn a_client_that_leaves_before_it_had_a_plan_is_detached_as_well() {
    let mut fence = Fence::joining(false, false);
    assert!(fence.is_apart());
    assert_eq!(fence.server_waits(), [Action::MakeRings(1), Action::PlanServer(1)]);
    assert!(fence.client_reaped().is_empty());
    assert_eq!(fence.client_leaves(), [Action::DetachServer]);
    assert!(!fence.is_apart());
    fence.server_reaped();
    assert!(fence.is_apart());
}
