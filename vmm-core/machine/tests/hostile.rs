//! Every device against a guest that writes anything anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bulkhead_hypervisor::recorder::Recorder;
use bulkhead_machine::bus::{Bus, BusDevice, BusRange};
use bulkhead_machine::ioapic::Ioapic;
use bulkhead_machine::irq::IrqLine;
use bulkhead_machine::pm_timer::PmTimer;
use bulkhead_machine::power::{Button, Power, PowerBlock, PowerPort};
use bulkhead_machine::reset::{KeyboardReset, ResetRegister};
use bulkhead_machine::rtc::Rtc;
use bulkhead_machine::uart::Uart;
use bulkhead_machine::{Requests, layout};
use proptest::prelude::*;

fn put(bus: &Bus, first: impl Into<u64>, len: u64, device: Arc<dyn BusDevice>) {
    bus.claim(BusRange::new(first.into(), len).unwrap(), device).unwrap();
}

proptest! {
    #[test]
    fn no_device_panics_and_each_still_answers(
        accesses in proptest::collection::vec((0..10u8, any::<bool>(), 0..0x14u64, any::<u64>(), 1..=8usize), 1..400)
    ) {
        let vm = Recorder::new();
        let ioapic = Ioapic::new(vm);
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let requests: Requests = Arc::new(move |_| { count.fetch_add(1, Ordering::Relaxed); });
        let power = Power::new(IrqLine::new(&ioapic, layout::SCI_PIN), Arc::clone(&requests));
        let uart = Uart::new(IrqLine::new(&ioapic, layout::COM1_PIN), Arc::new(|| {}));
        let bus = Bus::new();
        put(&bus, layout::IOAPIC, layout::IOAPIC_LEN, ioapic.clone());
        put(&bus, layout::COM1, u64::from(layout::COM1_LEN), uart.clone());
        put(&bus, layout::RTC, 2, Arc::new(Rtc::of_host()));
        put(&bus, layout::KEYBOARD_COMMAND, 1, Arc::new(KeyboardReset::new(Arc::clone(&requests))));
        put(&bus, layout::RESET, 1, Arc::new(ResetRegister(requests)));
        put(&bus, layout::PM1_EVENT, 4, Arc::new(PowerPort(Arc::clone(&power), PowerBlock::Events)));
        put(&bus, layout::PM1_CONTROL, 2, Arc::new(PowerPort(Arc::clone(&power), PowerBlock::Control)));
        put(&bus, layout::GPE0, 4, Arc::new(PowerPort(Arc::clone(&power), PowerBlock::GeneralEvents)));
        put(&bus, layout::PM_TIMER, 4, Arc::new(PmTimer::new()));
        let places = [
            layout::IOAPIC, layout::IOAPIC + 0x10, layout::COM1.into(), layout::RTC.into(), layout::KEYBOARD_COMMAND.into(),
            layout::RESET.into(), layout::PM1_EVENT.into(), layout::PM1_CONTROL.into(), layout::GPE0.into(), layout::PM_TIMER.into(),
        ];
        for (place, write, offset, value, len) in accesses {
            let address = places[usize::from(place)] + offset;
            let mut data = value.to_le_bytes();
            match write {
                true => bus.write(address, &data[..len]),
                false => bus.read(address, &mut data[..len]),
            }
            uart.input(&data[..len]);
            ioapic.end_of_interrupt(value as u8);
        }
        power.press(Button::Power);
        power.reset();
        ioapic.reset();
        uart.reset();
        let mut version = [0; 4];
        bus.write(layout::IOAPIC, &[1, 0, 0, 0]);
        bus.read(layout::IOAPIC + 0x10, &mut version);
        prop_assert_eq!(u32::from_le_bytes(version), 0x0017_0020);
    }
}
