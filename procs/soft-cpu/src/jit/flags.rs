//! The guest's arithmetic flags between the host's and memory.
//!
//! Both ways go through rax, which the guest owns: a scratch register keeps it meanwhile. Neither way
//! changes any other register, and saving leaves the host's flags as they are. The form in memory is
//! that of [`crate::state::Flags`].

use super::emit::{Emitter, Host, Opcode, RAX, Rm};
use super::layout;

/// The host's flags to memory.
pub(super) fn save(code: &mut Emitter, scratch: Host) {
    code.mov(scratch, RAX);
    // lahf; seto al
    code.raw(&[0x9f, 0x0f, 0x90, 0xc0]);
    let to = Opcode { prefixes: &[0x66], wide: false, rex: false, bytes: &[0x89] };
    code.encode(to, RAX, Rm::Memory(layout::flags()), &[]);
    code.mov(RAX, scratch);
}

/// Memory's carry to the host's; the host's other flags mean nothing.
pub(super) fn restore_carry(code: &mut Emitter) {
    // bt word ptr, 8
    let bt = Opcode { prefixes: &[0x66], wide: false, rex: false, bytes: &[0x0f, 0xba] };
    code.encode(bt, 4, Rm::Memory(layout::flags()), &[8]);
}

/// Memory's flags to the host's.
pub(super) fn restore(code: &mut Emitter, scratch: Host) {
    code.mov(scratch, RAX);
    // movzx eax, word ptr
    code.encode(Opcode::narrow(&[0x0f, 0xb7]), RAX, Rm::Memory(layout::flags()), &[]);
    // add al, 127 (overflows if bit 0 is set); sahf
    code.raw(&[0x04, 0x7f, 0x9e]);
    code.mov(RAX, scratch);
}
