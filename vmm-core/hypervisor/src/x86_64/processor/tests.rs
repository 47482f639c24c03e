use super::*;

fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
}

fn find(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
    leaves.iter().find(|leaf| (leaf.function, leaf.index) == (function, index)).copied()
}

const THIRD_OF_FOUR: Place = Place { index: 2, count: 4 };

#[test]
fn each_vcpu_finds_its_own_apic_id() {
    let supported = [leaf(1, 0, [0, 0x0001_0800, 0, 0])];
    let leaves = cpuid(&supported, THIRD_OF_FOUR);
    let basic = find(&leaves, 1, 0).unwrap();
    assert_eq!(basic.ebx, 0x0204_0800);
    assert_eq!(basic.edx >> 28 & 1, 1);
    for level in 0..3 {
        assert_eq!(find(&leaves, 0xb, level).unwrap().edx, 2);
    }
    assert_eq!(find(&leaves, 0xb, 1).unwrap().eax, 2);
    assert_eq!(find(&leaves, 0xb, 1).unwrap().ebx, 4);
}

#[test]
fn a_single_vcpu_has_no_siblings() {
    let leaves = cpuid(&[leaf(1, 0, [0, 0, 0, bit(28)])], Place { index: 0, count: 1 });
    let basic = find(&leaves, 1, 0).unwrap();
    assert_eq!((basic.ebx, basic.edx), (1 << 16, 0));
}

#[test]
fn three_vcpus_take_two_bits_of_the_apic_id() {
    let leaves = cpuid(&[leaf(1, 0, [0; 4])], Place { index: 2, count: 3 });
    assert_eq!(find(&leaves, 1, 0).unwrap().ebx, 0x0204_0000);
    assert_eq!(find(&leaves, 0xb, 1).unwrap().eax, 2);
    assert_eq!(find(&leaves, 0xb, 1).unwrap().ebx, 3);
}

#[test]
fn what_a_guest_must_not_use_is_hidden() {
    let all = !0;
    let supported = [
        leaf(1, 0, [all; 4]),
        leaf(7, 0, [all; 4]),
        leaf(0xa, 0, [all; 4]),
        leaf(0x12, 0, [all; 4]),
        leaf(0x8000_0001, 0, [all; 4]),
        leaf(0x8000_000a, 0, [all; 4]),
        leaf(0x8000_001f, 0, [all; 4]),
    ];
    let leaves = cpuid(&supported, THIRD_OF_FOUR);
    let vmx_monitor = bit(5) | bit(3);
    assert_eq!(find(&leaves, 1, 0).unwrap().ecx & vmx_monitor, 0);
    assert_eq!(find(&leaves, 7, 0).unwrap().edx & (bit(22) | bit(24) | bit(25)), 0);
    assert_eq!(find(&leaves, 0x8000_0001, 0).unwrap().ecx & bit(2), 0);
    for hidden in [0xa, 0x12, 0x8000_000a, 0x8000_001f] {
        assert_eq!(find(&leaves, hidden, 0), None, "leaf {hidden:#x}");
    }
}

#[test]
fn the_timer_and_the_hypervisor_are_announced() {
    let leaves = cpuid(&[leaf(1, 0, [0; 4])], THIRD_OF_FOUR);
    assert_eq!(find(&leaves, 1, 0).unwrap().ecx, bit(21) | bit(24) | bit(31));
}

#[test]
fn without_amx_the_xsave_area_fits_a_page() {
    let supported = [
        leaf(0xd, 0, [0x6_02e7, 11_008, 11_008, 0]),
        leaf(0xd, 2, [256, 576, 0, 0]),
        leaf(0xd, 9, [8, 2688, 0, 0]),
        leaf(0xd, 17, [64, 2752, 0, 0]),
        leaf(0xd, 18, [8192, 2816, 0, 0]),
    ];
    let leaves = cpuid(&supported, THIRD_OF_FOUR);
    let main = find(&leaves, 0xd, 0).unwrap();
    assert_eq!(main.eax, 0x2e7);
    assert_eq!(main.ecx, 2696);
    assert!(main.ecx <= size_of::<super::super::Xsave>() as u32);
    assert_eq!(find(&leaves, 0xd, 18), None);
}

#[test]
fn only_the_last_cache_level_is_shared() {
    let supported = [
        leaf(4, 0, [0xfc03_c121, 0, 0, 0]),
        leaf(4, 3, [0xfc03_c163, 0, 0, 0]),
        leaf(4, 4, [0, 0, 0, 0]),
    ];
    let leaves = cpuid(&supported, THIRD_OF_FOUR);
    assert_eq!(find(&leaves, 4, 0).unwrap().eax, 0x0c00_0121);
    assert_eq!(find(&leaves, 4, 3).unwrap().eax, 0x0c00_c163);
    assert_eq!(find(&leaves, 4, 4).unwrap().eax, 0);
}

#[test]
fn every_register_with_a_guest_address_in_it_is_reset() {
    let saved: Vec<u32> = saved_msrs().collect();
    for kvm in 0x4b56_4d00..=0x4b56_4d06 {
        assert!(saved.contains(&kvm), "{kvm:#x}");
    }
}

#[test]
fn the_deadline_is_restored_after_everything_else() {
    assert_eq!(saved_msrs().last(), Some(0x6e0));
}
