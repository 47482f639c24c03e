use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Header, data and status cut anywhere, in one descriptor each or all in few, both directions.
    #[test]
    fn any_layout_of_descriptors_is_served(
        packed: bool,
        blocks in 1usize..40,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        sector in 0u64..1000,
    ) {
        let mut rig = Rig::new(packed, info());
        let len = blocks * 512;
        let bytes = pattern(sector, len);
        // Written as one buffer of header and data, cut at random; the status apart.
        let header = [&OUT.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        rig.put(DATA, &[&header[..], &bytes].concat());
        let mut segments = cut(16 + len, &cuts, DATA, false);
        segments.push(Segment::write(HEADERS, 1));
        rig.add_raw(&segments);
        rig.settle();
        prop_assert_eq!(rig.poll().map(|used| used.written), Some(1));
        prop_assert_eq!(rig.get(HEADERS, 1), [OK]);
        let at = sector as usize * 512;
        prop_assert_eq!(&rig.layer.image[at..at + len], &bytes);
        // Read into one buffer of data and status, cut at random; the header cut in two.
        let header = [&IN.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        rig.put(HEADERS, &header);
        rig.put(DATA, &vec![0xee; len + 1]);
        let mut segments = vec![Segment::read(HEADERS, 7), Segment::read(HEADERS + 7, 9)];
        segments.extend(cut(len + 1, &cuts, DATA, true));
        rig.add_raw(&segments);
        rig.settle();
        prop_assert_eq!(rig.poll().map(|used| used.written), Some(len as u32 + 1));
        prop_assert_eq!(rig.get(DATA, len), bytes);
        prop_assert_eq!(rig.get(DATA + len as u64, 1), [OK]);
    }

    /// More and longer requests than ring and arena hold, completed in any order.
    #[test]
    fn requests_that_do_not_fit_wait_for_room(
        requests in prop::collection::vec((any::<bool>(), 1u32..5000), 1..20),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
    ) {
        let mut rig = Rig::with(false, info(), RingGeometry::new(4, 1 << 20).unwrap());
        let mut order = order.into_iter().cycle();
        let mut expected = HashMap::new();
        for (number, (write, blocks)) in requests.iter().enumerate() {
            // Each has a region of the image and of memory of its own.
            let (number, len) = (number as u64, (*blocks).min(1500) * 512);
            let (sector, data) = (1500 * number, DATA + number * 0x100000);
            let bytes = pattern(number, len as usize);
            let segment = match write {
                true => {
                    rig.put(data, &bytes);
                    Segment::read(data, len)
                }
                false => {
                    let at = sector as usize * 512;
                    rig.layer.image[at..at + len as usize].copy_from_slice(&bytes);
                    Segment::write(data, len)
                }
            };
            let (id, status) = rig.add(if *write { OUT } else { IN }, sector, &[segment]);
            expected.insert(id, (*write, sector, data, bytes, status));
        }
        rig.serve();
        rig.layer.take();
        while !rig.layer.held.is_empty() {
            prop_assert!(rig.layer.held.len() <= 4);
            let next = order.next().unwrap().index(rig.layer.held.len());
            rig.layer.complete(next);
            rig.serve();
            rig.layer.take();
        }
        while let Some(used) = rig.poll() {
            let (write, sector, data, bytes, status) = expected.remove(&used.id).unwrap();
            prop_assert_eq!(rig.get(status, 1), [OK]);
            let at = sector as usize * 512;
            match write {
                true => prop_assert_eq!(&rig.layer.image[at..at + bytes.len()], &bytes),
                false => prop_assert_eq!(rig.get(data, bytes.len()), bytes),
            }
        }
        prop_assert!(expected.is_empty());
    }
}

/// `len` bytes at `addr` as descriptors, cut at these places.
fn cut(len: usize, cuts: &[prop::sample::Index], addr: u64, device_writes: bool) -> Vec<Segment> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len)).collect();
    places.extend([0, len]);
    places.sort_unstable();
    places.dedup();
    let segment = |pair: &[usize]| Segment {
        addr: addr + pair[0] as u64,
        len: (pair[1] - pair[0]) as u32,
        device_writes,
    };
    places.windows(2).map(segment).collect()
}

#[test]
fn a_request_longer_than_any_span_is_cut_in_order_and_whole() {
    let mut rig = Rig::new(false, info());
    let len = (5 << 20) + 512;
    let bytes = pattern(3, len);
    rig.put(DATA, &bytes);
    assert_eq!(rig.run(OUT, 8, &[Segment::read(DATA, len as u32)]), (OK, 1));
    assert_eq!(rig.layer.image[8 * 512..8 * 512 + len], bytes);
    let mut next = 8 * 512;
    for request in &rig.layer.seen {
        assert_eq!(request.offset, next);
        assert!(request.len <= 1 << 20);
        next += u64::from(request.len);
    }
    assert_eq!(rig.layer.seen.len(), 6);
}

#[test]
fn one_failed_piece_fails_the_request() {
    let mut rig = Rig::new(false, info());
    let (_, status) = rig.add(IN, 0, &[Segment::write(DATA, 2 << 20)]);
    rig.serve();
    rig.layer.take();
    let failed = rig.layer.held.remove(0);
    rig.layer.answer(failed.tag, 5);
    rig.serve();
    assert!(rig.poll().is_none(), "another piece is still out");
    rig.settle();
    assert!(rig.poll().is_some());
    assert_eq!(rig.get(status, 1), [IO_ERROR]);
}
