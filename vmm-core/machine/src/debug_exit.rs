//! A port by which a test kernel ends its machine and says how the test went, as QEMU's
//! `isa-debug-exit`: whatever is written there, in one access of one to four bytes, is the result.

use crate::bus::BusDevice;
use crate::request::{Request, Requests};

/// The ports it claims: as many as one access may have bytes.
pub const DEBUG_EXIT_LEN: u64 = 4;

/// The port.
pub struct DebugExit(pub Requests);

impl BusDevice for DebugExit {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        let result =
            data.iter().take(4).rev().fold(0, |result, byte| result << 8 | u32::from(*byte));
        (self.0)(Request::DebugExit(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn what_is_written_is_the_result_whatever_its_width() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let port = DebugExit(Arc::new(move |request| heard.lock().unwrap().push(request)));
        port.write(0, &[1]);
        port.write(0, &[2, 3]);
        port.write(1, &[4, 5, 6, 0x80]);
        let results = [1, 0x302, 0x8006_0504].map(Request::DebugExit);
        assert_eq!(*asked.lock().unwrap(), results);
        let mut read = [0xff; 4];
        port.read(0, &mut read);
        assert_eq!(read, [0; 4]);
    }
}
