//! Which handler executes a string instruction.

use iced_x86::{Code, OpKind};

use super::port::{Ins, Outs};
use super::repeat::{counted, once, while_equal, while_unequal};
use super::step::{Cmps, Lods, Movs, Scas, Step, Stos};
use crate::alu::Word;
use crate::op::{AddressSize, Handler, Shape};
use crate::select::{Draft, segment};
use crate::state::SegmentName;

/// Names the handler and fills `shape`: the source's segment, and the width of rSI, rDI and rCX.
pub fn select(draft: &mut Draft<'_>) -> Option<Handler> {
    let handler = match draft.instruction.code() {
        Code::Movsb_m8_m8 => of::<Movs, u8>(draft),
        Code::Movsw_m16_m16 => of::<Movs, u16>(draft),
        Code::Movsd_m32_m32 => of::<Movs, u32>(draft),
        Code::Movsq_m64_m64 => of::<Movs, u64>(draft),
        Code::Stosb_m8_AL => of::<Stos, u8>(draft),
        Code::Stosw_m16_AX => of::<Stos, u16>(draft),
        Code::Stosd_m32_EAX => of::<Stos, u32>(draft),
        Code::Stosq_m64_RAX => of::<Stos, u64>(draft),
        Code::Lodsb_AL_m8 => of::<Lods, u8>(draft),
        Code::Lodsw_AX_m16 => of::<Lods, u16>(draft),
        Code::Lodsd_EAX_m32 => of::<Lods, u32>(draft),
        Code::Lodsq_RAX_m64 => of::<Lods, u64>(draft),
        Code::Cmpsb_m8_m8 => of::<Cmps, u8>(draft),
        Code::Cmpsw_m16_m16 => of::<Cmps, u16>(draft),
        Code::Cmpsd_m32_m32 => of::<Cmps, u32>(draft),
        Code::Cmpsq_m64_m64 => of::<Cmps, u64>(draft),
        Code::Scasb_AL_m8 => of::<Scas, u8>(draft),
        Code::Scasw_AX_m16 => of::<Scas, u16>(draft),
        Code::Scasd_EAX_m32 => of::<Scas, u32>(draft),
        Code::Scasq_RAX_m64 => of::<Scas, u64>(draft),
        Code::Insb_m8_DX => of::<Ins, u8>(draft),
        Code::Insw_m16_DX => of::<Ins, u16>(draft),
        Code::Insd_m32_DX => of::<Ins, u32>(draft),
        Code::Outsb_DX_m8 => of::<Outs, u8>(draft),
        Code::Outsw_DX_m16 => of::<Outs, u16>(draft),
        Code::Outsd_DX_m32 => of::<Outs, u32>(draft),
        _ => return None,
    };
    draft.op.shape = Shape::new(0, source_segment(draft) as u8, address_size(draft)?);
    Some(handler)
}

fn of<S: Step, W: Word>(draft: &Draft<'_>) -> Handler {
    let (repeats, repeats_unequal) =
        (draft.instruction.has_rep_prefix(), draft.instruction.has_repne_prefix());
    match (S::COMPARES, repeats, repeats_unequal) {
        (_, false, false) => once::<S, W>,
        (false, ..) => counted::<S, W>,
        // With both prefixes the decoder keeps the last one only.
        (true, _, false) => while_equal::<S, W>,
        (true, _, true) => while_unequal::<S, W>,
    }
}

fn source_segment(draft: &Draft<'_>) -> SegmentName {
    segment(draft.instruction.memory_segment()).unwrap_or(SegmentName::Ds)
}

fn address_size(draft: &Draft<'_>) -> Option<AddressSize> {
    (0..draft.instruction.op_count()).find_map(|index| match draft.instruction.op_kind(index) {
        OpKind::MemorySegSI | OpKind::MemoryESDI => Some(AddressSize::Bits16),
        OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(AddressSize::Bits32),
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(AddressSize::Bits64),
        _ => None,
    })
}
