use super::*;

const ONE: Wish = Wish { queues: 1, cpu: None };

#[test]
fn a_disk_takes_the_cpu_that_no_vcpu_needs() {
    let placement = place(&[0, 1], 1, &[ONE], 0);
    assert_eq!(placement.disks, [[0]]);
    assert_eq!(placement.core, [1]);
}

#[test]
fn every_disk_of_a_small_host_shares_the_free_cpu() {
    let placement = place(&[0, 1], 1, &[ONE, ONE, ONE], 1);
    assert_eq!(placement.disks, [[1], [1], [1]]);
    assert_eq!(placement.core, [0]);
}

#[test]
fn neighbours_with_one_mask_take_different_cpus() {
    let mask = [0, 1, 2, 3];
    let taken: Vec<u32> = (0..4).map(|turn| place(&mask, 1, &[ONE], turn).disks[0][0]).collect();
    assert_eq!(taken, mask);
}

#[test]
fn with_as_many_vcpus_as_cpus_core_may_use_all_and_disks_are_spread() {
    let placement = place(&[4, 6], 2, &[ONE, ONE], 0);
    assert!(placement.core.is_empty());
    assert_eq!(placement.disks, [[4], [6]]);
}

#[test]
fn queue_i_is_served_on_the_ith_cpu_of_the_mask() {
    let wish = Wish { queues: 3, cpu: None };
    assert_eq!(place(&[2, 5], 0, &[wish], 1).disks, [[2, 5, 2]]);
}

#[test]
fn the_users_cpu_wins() {
    let wish = Wish { queues: 2, cpu: Some(1) };
    assert_eq!(place(&[0, 1], 1, &[wish], 0).disks, [[1, 1]]);
}

#[test]
fn core_is_never_left_with_fewer_cpus_than_vcpus() {
    for vcpus in 1..=6 {
        for disks in 0..=6 {
            for turn in 0..4 {
                let placement = place(&[0, 1, 2, 3], vcpus, &vec![ONE; disks], turn);
                let core = placement.core.len();
                assert!(core == 0 || core >= vcpus as usize, "{placement:?}");
                for disk in &placement.disks {
                    assert!(!placement.core.contains(&disk[0]));
                }
            }
        }
    }
}

#[test]
fn a_mask_of_one_cpu_holds_everything() {
    let placement = place(&[7], 4, &[ONE], 3);
    assert_eq!((placement.core, placement.disks), (vec![], vec![vec![7]]));
}
