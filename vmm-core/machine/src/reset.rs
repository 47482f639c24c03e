//! Two registers whose only purpose is to reset the machine.

use std::convert::Infallible;
use std::sync::Mutex;

use vm_superio::{I8042Device, Trigger};

use crate::bus::BusDevice;
use crate::hold::hold;
use crate::layout::RESET_VALUE;
use crate::request::{Request, Requests};

/// The reset control register of PC chipsets, which ACPI names as its reset register.
pub struct ResetRegister(pub Requests);

impl BusDevice for ResetRegister {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data[..1].fill(0);
    }

    /// Drivers first choose the kind of reset (without the value's bit 2), then trigger it.
    fn write(&self, _offset: u64, data: &[u8]) {
        const TRIGGER: u8 = RESET_VALUE & 1 << 2;
        if data.first().is_some_and(|value| value & TRIGGER != 0) {
            (self.0)(Request::Reset);
        }
    }
}

struct ResetLine(Requests);

impl Trigger for ResetLine {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        (self.0)(Request::Reset);
        Ok(())
    }
}

/// The command port of the keyboard controller, of which nothing but the reset line exists. ACPI tells
/// guests that there is no keyboard controller; old reset code uses it all the same.
pub struct KeyboardReset(Mutex<I8042Device<ResetLine>>);

/// Offset of the command port from the controller's first port.
const COMMAND: u8 = 4;

impl KeyboardReset {
    /// A controller whose reset line leads to `requests`.
    pub fn new(requests: Requests) -> Self {
        Self(Mutex::new(I8042Device::new(ResetLine(requests))))
    }
}

impl BusDevice for KeyboardReset {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data[..1].fill(hold(&self.0).read(COMMAND));
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if let Some(command) = data.first() {
            let Ok(()) = hold(&self.0).write(COMMAND, *command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counter() -> (Arc<AtomicU32>, Requests) {
        let count = Arc::new(AtomicU32::new(0));
        let sink = Arc::clone(&count);
        let requests: Requests = Arc::new(move |request| {
            assert_eq!(request, Request::Reset);
            sink.fetch_add(1, Ordering::Relaxed);
        });
        (count, requests)
    }

    #[test]
    fn choosing_the_kind_of_reset_does_not_reset_yet() {
        let (count, requests) = counter();
        let register = ResetRegister(requests);
        register.write(0, &[2]);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        register.write(0, &[RESET_VALUE]);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_keyboard_controller_resets_on_its_one_command() {
        let (count, requests) = counter();
        let controller = KeyboardReset::new(requests);
        for command in 0..=0xffu8 {
            controller.write(0, &[command, 0xfe]);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let mut status = [0xff; 2];
        controller.read(0, &mut status);
        assert_eq!(status, [0, 0xff], "never busy");
    }
}
