use super::*;

#[test]
fn what_was_written_is_read_back() {
    for packed in [false, true] {
        let mut rig = Rig::new(packed, info());
        let bytes = pattern(1, 8192);
        rig.put(DATA, &bytes);
        assert_eq!(rig.run(OUT, 5, &[Segment::read(DATA, 8192)]), (OK, 1));
        assert_eq!(rig.layer.image[5 * 512..5 * 512 + 8192], bytes);
        rig.put(DATA, &[0; 8192]);
        assert_eq!(rig.run(IN, 5, &[Segment::write(DATA, 8192)]), (OK, 8193));
        assert_eq!(rig.get(DATA, 8192), bytes);
    }
}

#[test]
fn the_id_is_the_serial_in_as_much_room_as_there_is() {
    let mut rig = Rig::new(false, info());
    assert_eq!(rig.run(GET_ID, 0, &[Segment::write(DATA, 20)]), (OK, 21));
    assert_eq!(&rig.get(DATA, 20), b"serial-number\0\0\0\0\0\0\0");
    rig.put(DATA, &[0xff; 30]);
    assert_eq!(rig.run(GET_ID, 0, &[Segment::write(DATA, 6)]), (OK, 7));
    assert_eq!(&rig.get(DATA, 7), b"serial\xff");
    assert_eq!(rig.run(GET_ID, 0, &[Segment::write(DATA, 30)]), (OK, 20));
}

#[test]
fn flush_discard_and_zeroes_reach_the_block_layer_as_they_are() {
    let mut rig = Rig::new(false, info());
    assert_eq!(rig.run(FLUSH, 0, &[]), (OK, 1));
    let range = |sector: u64, sectors: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    let cases = [
        (DISCARD, range(8, 16, 0), Ok(Operation::Discard)),
        (WRITE_ZEROES, range(8, 16, 0), Ok(Operation::WriteZeroes)),
        (WRITE_ZEROES, range(8, 16, 1), Ok(Operation::WriteZeroesUnmap)),
        (DISCARD, range(8, 16, 1), Err(UNSUPPORTED)),
        (WRITE_ZEROES, range(8, 16, 2), Err(UNSUPPORTED)),
        (WRITE_ZEROES, range(DISK / 512 - 8, 16, 0), Err(IO_ERROR)),
        (DISCARD, range(u64::MAX, 16, 0), Err(IO_ERROR)),
        (DISCARD, range(8, 16, 0)[..15].to_vec(), Err(IO_ERROR)),
        (DISCARD, [range(8, 16, 0), range(8, 16, 0)].concat(), Err(IO_ERROR)),
    ];
    for (kind, bytes, wanted) in cases {
        rig.layer.seen.clear();
        rig.put(DATA, &bytes);
        let (status, _) = rig.run(kind, 0, &[Segment::read(DATA, bytes.len() as u32)]);
        match wanted {
            Ok(operation) => {
                let [seen] = rig.layer.seen[..] else { panic!("{:?}", rig.layer.seen) };
                assert_eq!((status, seen.operation()), (OK, Some(operation)));
                assert_eq!((seen.offset, seen.len), (8 * 512, 16 * 512));
            }
            Err(wanted) => assert_eq!((status, rig.layer.seen.len()), (wanted, 0)),
        }
    }
}

#[test]
fn what_a_disk_cannot_do_never_reaches_the_block_layer() {
    let mut rig = Rig::new(false, DiskInfo { read_only: true, ..info() });
    rig.put(DATA, &[8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, sector, data, wanted) in [
        (OUT, 0, Segment::read(DATA, 512), IO_ERROR),
        (DISCARD, 0, Segment::read(DATA, 16), IO_ERROR),
        (WRITE_ZEROES, 0, Segment::read(DATA, 16), IO_ERROR),
        (IN, DISK / 512, Segment::write(DATA, 512), IO_ERROR),
        (IN, u64::MAX, Segment::write(DATA, 512), IO_ERROR),
        (IN, u64::MAX / 512 + 1, Segment::write(DATA, 512), IO_ERROR),
        (IN, 0, Segment::write(DATA, 513), IO_ERROR),
        (IN, 0, Segment::write(DATA, DISK as u32 + 512), IO_ERROR),
        (2, 0, Segment::write(DATA, 512), UNSUPPORTED),
        (u32::MAX, 0, Segment::write(DATA, 512), UNSUPPORTED),
    ] {
        let (status, written) = rig.run(kind, sector, &[data]);
        assert_eq!(status, wanted, "type {kind}, sector {sector}, {data:?}");
        assert!(written <= 1 && rig.layer.seen.is_empty());
    }
    assert_eq!(rig.run(IN, 0, &[Segment::write(DATA, 512)]).0, OK);
}

#[test]
fn requests_without_header_or_status_are_given_back() {
    let mut rig = Rig::new(false, info());
    for segments in [
        &[Segment::write(DATA, 1)][..],
        &[Segment::read(DATA, 15), Segment::write(DATA, 1)],
        &[Segment::read(DATA, 16)],
        &[Segment::read(DATA, 600)],
    ] {
        let id = rig.add_raw(segments);
        rig.settle();
        assert_eq!(rig.poll().map(|used| used.id), Some(id));
    }
    assert!(rig.layer.seen.is_empty());
}

#[test]
fn a_driver_without_flush_has_its_writes_on_stable_storage() {
    for (features, flags) in [(0, FLAG_FUA), (1 << 9, 0)] {
        let mut rig = Rig::new(false, info());
        rig.features = features;
        rig.start(false);
        assert_eq!(rig.run(OUT, 0, &[Segment::read(DATA, 512)]).0, OK);
        assert_eq!(rig.run(IN, 0, &[Segment::write(DATA, 512)]).0, OK);
        let seen: Vec<u8> = rig.layer.seen.iter().map(|request| request.flags).collect();
        assert_eq!(seen, [flags, 0]);
    }
}

#[test]
fn a_failure_of_the_block_layer_is_an_io_error() {
    let mut rig = Rig::new(false, info());
    for status in [5, 28, u32::MAX] {
        let (_, place) = rig.add(IN, 0, &[Segment::write(DATA, 512)]);
        rig.serve();
        rig.layer.take();
        let request = rig.layer.held.remove(0);
        rig.layer.answer(request.tag, status);
        rig.serve();
        assert_eq!(rig.poll().map(|used| used.written), Some(0));
        assert_eq!(rig.get(place, 1), [IO_ERROR]);
    }
}

#[test]
fn completions_that_were_not_awaited_blame_the_block_layer() {
    let fault = |tamper: fn(&mut Layer, u64)| {
        let mut rig = Rig::new(false, info());
        rig.add(IN, 0, &[Segment::write(DATA, 512)]);
        rig.serve();
        rig.layer.take();
        let tag = rig.layer.held[0].tag;
        tamper(&mut rig.layer, tag);
        rig.device.serve(&mut rig.queues).unwrap_err()
    };
    let unknown = fault(|layer, tag| layer.answer(tag + 1, 0));
    assert!(matches!(unknown, DeviceFault::Peer(_)));
    let outside = fault(|layer, _| layer.answer(u64::MAX, 0));
    assert!(matches!(outside, DeviceFault::Peer(_)));
    let twice = fault(|layer, tag| {
        layer.answer(tag, 0);
        layer.answer(tag, 0);
    });
    assert!(matches!(twice, DeviceFault::Peer(_)));
    let older = fault(|layer, tag| layer.answer(tag & 0xffff_ffff, 0));
    assert!(matches!(older, DeviceFault::Peer(_)));
}
