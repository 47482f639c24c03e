use super::*;

/// Writes of one block each, so that the block layer's view tells the order.
fn add_writes(rig: &mut Rig, sectors: std::ops::Range<u64>) {
    for sector in sectors {
        let data = DATA + 512 * sector;
        rig.put(data, &pattern(sector, 512));
        rig.add(OUT, sector, &[Segment::read(data, 512)]);
    }
}

fn seen(rig: &Rig) -> Vec<u64> {
    rig.layer.seen.iter().map(|request| request.offset / 512).collect()
}

fn assert_written(rig: &mut Rig, sectors: std::ops::Range<u64>) {
    for sector in sectors.clone() {
        let at = sector as usize * 512;
        assert_eq!(rig.layer.image[at..at + 512], pattern(sector, 512), "sector {sector}");
        assert!(rig.poll().is_some());
    }
    assert!(rig.poll().is_none());
}

#[test]
fn a_successor_submits_again_what_was_in_flight_in_the_order_it_came() {
    for packed in [false, true] {
        let mut rig = Rig::new(packed, info());
        add_writes(&mut rig, 0..8);
        rig.serve();
        rig.layer.take();
        // Two were performed: one was answered, of the other the completion was lost.
        rig.layer.complete(5);
        rig.serve();
        assert!(rig.poll().is_some());
        rig.layer.complete(2);
        rig.succeed(false);
        rig.serve();
        rig.layer.take();
        assert_eq!(seen(&rig), [0, 1, 2, 3, 4, 6, 7], "packed {packed}");
        rig.settle();
        for _ in 0..7 {
            assert!(rig.poll().is_some());
        }
        assert!(rig.poll().is_none());
    }
}

#[test]
fn what_came_while_nobody_served_comes_after_what_was_in_flight() {
    let mut rig = Rig::new(false, info());
    add_writes(&mut rig, 0..4);
    rig.serve();
    add_writes(&mut rig, 4..6);
    rig.succeed(false);
    rig.settle();
    assert_eq!(seen(&rig), [0, 1, 2, 3, 4, 5]);
    assert_written(&mut rig, 0..6);
}

#[test]
fn a_new_block_layer_gets_what_the_dead_one_had_in_the_order_it_was_submitted() {
    let mut rig = Rig::new(false, info());
    add_writes(&mut rig, 0..20);
    rig.serve();
    rig.layer.take();
    assert_eq!(seen(&rig).len(), 16, "the ring has no more entries");
    rig.layer.complete(3);
    rig.layer.complete(0);
    rig.serve();
    rig.layer.take();
    assert_eq!(seen(&rig).len(), 18);
    assert!(rig.poll().is_some() && rig.poll().is_some());
    rig.replace_layer(false);
    rig.serve();
    rig.layer.take();
    let wanted: Vec<u64> = (0..18).filter(|sector| ![0, 3].contains(sector)).collect();
    assert_eq!(seen(&rig), wanted);
    rig.settle();
    for _ in 0..18 {
        assert!(rig.poll().is_some());
    }
    assert!(rig.poll().is_none());
}

#[test]
fn block_layers_that_die_again_and_again_cost_time_only() {
    let mut rig = Rig::with(false, info(), RingGeometry::new(4, 1 << 20).unwrap());
    add_writes(&mut rig, 0..12);
    let bytes = pattern(99, 3 << 20);
    rig.put(DATA + 0x400000, &bytes);
    rig.add(OUT, 1000, &[Segment::read(DATA + 0x400000, 3 << 20)]);
    for round in 0..40 {
        rig.serve();
        rig.layer.take();
        if round % 3 == 0 && !rig.layer.held.is_empty() {
            rig.layer.complete(rig.layer.held.len() / 2);
            rig.serve();
            rig.layer.take();
        }
        rig.replace_layer(false);
    }
    rig.settle();
    assert_eq!(rig.layer.image[1000 * 512..1000 * 512 + bytes.len()], bytes);
    for sector in 0..12u64 {
        let at = sector as usize * 512;
        assert_eq!(rig.layer.image[at..at + 512], pattern(sector, 512));
    }
    let answers = std::iter::from_fn(|| rig.poll()).count();
    assert_eq!(answers, 13);
}

#[test]
fn a_request_that_kills_three_block_layers_is_refused_and_the_others_go_on() {
    let mut rig = Rig::new(false, info());
    let (poison, status) = rig.add(IN, 1, &[Segment::write(DATA, 512)]);
    rig.serve();
    for _ in 0..2 {
        rig.replace_layer(true);
        rig.serve();
        rig.layer.take();
        assert_eq!(seen(&rig), [1]);
    }
    rig.replace_layer(true);
    rig.serve();
    rig.layer.take();
    assert!(seen(&rig).is_empty(), "it is not tried again");
    assert_eq!(rig.poll().map(|used| used.id), Some(poison));
    assert_eq!(rig.get(status, 1), [IO_ERROR]);
    assert_eq!(rig.run(IN, 2, &[Segment::write(DATA, 512)]).0, OK);
}

#[test]
fn block_layers_killed_from_outside_make_no_poison() {
    let mut rig = Rig::new(false, info());
    rig.add(IN, 1, &[Segment::write(DATA, 512)]);
    for _ in 0..20 {
        rig.serve();
        rig.replace_layer(false);
    }
    rig.settle();
    assert!(rig.poll().is_some());
    assert_eq!(seen(&rig), [1]);
}

#[test]
fn a_request_that_kills_three_of_us_is_answered_with_an_error() {
    let mut rig = Rig::new(false, info());
    let (poison, status) = rig.add(IN, 1, &[Segment::write(DATA, 512)]);
    rig.serve();
    for _ in 0..3 {
        rig.succeed(true);
    }
    rig.serve();
    rig.layer.take();
    assert!(seen(&rig).is_empty());
    assert_eq!(rig.poll().map(|used| used.id), Some(poison));
    assert_eq!(rig.get(status, 1), [IO_ERROR]);
}
