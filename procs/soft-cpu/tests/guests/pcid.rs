//! Address spaces and what drops their translations (Intel SDM volume 3, 4.10).
//!
//! Two spaces that map page [`SEEN`] to different frames. A guest changes an entry of the tables behind
//! the TLB's back: what it reads tells whether the old translation was still there.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::stage::*;

/// The linear page, and what lies in the frames that it is mapped to.
const SEEN: u64 = 0x10_0000;
const FRAMES: [u64; 3] = [0x10_0000, 0x10_1000, 0x10_2000];
const WORDS: [u32; 3] = [0xa, 0xb, 0xc];
/// The second space's tables: its last level, then those above.
const SECOND: u64 = 0x30_0000;
/// Where `invpcid` finds its descriptor.
const DESCRIPTOR: u64 = 0x18_0000;

const GLOBAL: u64 = 1 << 8;
const PGE: u64 = 1 << 7;
const PCIDE: u64 = 1 << 17;
const KEEP: u64 = 1 << 63;
const HANDLER: u64 = 0x9000;

/// Level 0, both spaces ready (the second one's PCID is told with each switch), page SEEN of the first in
/// frame 0 and of the second in frame 1, entries with `bits` more.
fn guest(bits: u64, features: u64, code: &[u8]) -> Guest {
    let mut guest = Guest::long(code);
    for (frame, word) in FRAMES.into_iter().zip(WORDS) {
        guest.put_word(frame, word.into());
    }
    for page in 0..1024u64 {
        guest.put_word(SECOND + 8 * page, (page << 12) | 7);
    }
    guest.put_word(SECOND + 0x2000, (SECOND + 0x3000) | 7);
    guest.put_word(SECOND + 0x3000, (SECOND + 0x4000) | 7);
    guest.put_word(SECOND + 0x4000, SECOND | 7);
    guest.put_word(SECOND + 0x4008, (SECOND + 0x1000) | 7);
    for page in 512..1024u64 {
        guest.put_word(SECOND + 8 * page, (page << 12) | 7);
    }
    guest.put_word(Guest::entry_of(SEEN), FRAMES[0] | 7 | bits);
    guest.put_word(SECOND + (SEEN >> 12) * 8, FRAMES[1] | 7 | bits);
    let handler = assemble(64, HANDLER, |code| {
        code.mov(eax, 0xdeadu32)?;
        say(code)?;
        done(code)
    });
    guest.put(HANDLER, &handler);
    guest.gate(13, HANDLER, 0);
    let mut state = guest.vcpu.state().unwrap();
    state.sregs.cr4 |= features;
    guest.vcpu.set_state(&state).unwrap();
    guest
}

type Written = Result<(), IcedError>;

fn look(code: &mut CodeAssembler) -> Written {
    code.mov(eax, dword_ptr(SEEN))?;
    say(code)
}

/// Makes the first space's entry lead to frame 2, silently.
fn change(code: &mut CodeAssembler) -> Written {
    code.mov(byte_ptr(Guest::entry_of(SEEN) + 1), 0x20)
}

fn switch(code: &mut CodeAssembler, value: u64) -> Written {
    code.mov(rax, value)?;
    code.mov(cr3, rax)
}

const FIRST: u64 = TABLES;
const SECOND_TABLES: u64 = SECOND + 0x2000;

fn set_cr4(code: &mut CodeAssembler, bits: u64) -> Written {
    code.mov(rax, cr4)?;
    code.xor(rax, bits as i32)?;
    code.mov(cr4, rax)
}

fn invpcid(code: &mut CodeAssembler, kind: u32, pcid: u64, address: u64) -> Written {
    code.mov(ebx, DESCRIPTOR as u32)?;
    code.mov(rcx, pcid)?;
    code.mov(qword_ptr(rbx), rcx)?;
    code.mov(rcx, address)?;
    code.mov(qword_ptr(rbx + 8), rcx)?;
    code.mov(edx, kind)?;
    code.invpcid(rdx, xmmword_ptr(rbx))
}

fn words(bits: u64, features: u64, write: impl FnOnce(&mut CodeAssembler) -> Written) -> Vec<u32> {
    let code = assemble(64, CODE, |code| {
        write(code)?;
        done(code)
    });
    guest(bits, features, &code).words().0
}

#[test]
fn a_translation_stays_until_it_is_dropped() {
    let seen = words(0, 0, |code| {
        look(code)?;
        change(code)?;
        look(code)
    });
    assert_eq!(seen, [0xa, 0xa], "the tests below rest on this");
}

#[test]
fn without_pcid_a_write_of_cr3_drops_all_but_global_pages() {
    let both = |code: &mut CodeAssembler| {
        look(code)?;
        change(code)?;
        switch(code, FIRST)?;
        look(code)
    };
    assert_eq!(words(0, 0, both), [0xa, 0xc]);
    assert_eq!(words(GLOBAL, PGE, both), [0xa, 0xa]);
    assert_eq!(words(GLOBAL, 0, both), [0xa, 0xc], "no global pages without CR4.PGE");
}

#[test]
fn a_global_page_is_the_same_in_every_space() {
    let seen = words(GLOBAL, PGE | PCIDE, |code| {
        look(code)?;
        switch(code, SECOND_TABLES | 1)?;
        // The second space's own translation may be used as well: they are to be the same.
        switch(code, FIRST | KEEP)?;
        change(code)?;
        look(code)?;
        code.invlpg(byte_ptr(SEEN))?;
        look(code)
    });
    assert_eq!(seen, [0xa, 0xa, 0xc]);
}

#[test]
fn spaces_keep_apart_and_keep_what_they_had() {
    let seen = words(0, PCIDE, |code| {
        look(code)?;
        switch(code, SECOND_TABLES | 1)?;
        look(code)?;
        change(code)?;
        switch(code, FIRST | KEEP)?;
        look(code)?;
        switch(code, SECOND_TABLES | 1 | KEEP)?;
        look(code)?;
        switch(code, FIRST)?;
        look(code)
    });
    assert_eq!(seen, [0xa, 0xb, 0xa, 0xb, 0xc], "bit 63 keeps, its absence drops");
}

#[test]
fn bit_63_of_cr3_is_not_kept_and_needs_pcid() {
    let seen = words(0, PCIDE, |code| {
        switch(code, FIRST | KEEP)?;
        code.mov(rax, cr3)?;
        code.shr(rax, 32)?;
        say(code)
    });
    assert_eq!(seen, [0]);
    assert_eq!(words(0, 0, |code| switch(code, FIRST | KEEP)), [0xdead]);
    assert_eq!(words(0, PCIDE, |code| switch(code, FIRST | 1 << 50)), [0xdead]);
}

#[test]
fn more_spaces_than_are_remembered_are_still_apart() {
    let seen = words(0, PCIDE, |code| {
        for pcid in 1..40 {
            let tables = if pcid % 2 == 0 { FIRST } else { SECOND_TABLES };
            switch(code, tables | pcid | KEEP)?;
            look(code)?;
        }
        Ok(())
    });
    let expected: Vec<u32> = (1..40).map(|pcid| 0xa + pcid % 2).collect();
    assert_eq!(seen, expected);
}

#[test]
fn invlpg_drops_a_page_and_a_global_one_everywhere() {
    let here = |code: &mut CodeAssembler| {
        look(code)?;
        change(code)?;
        code.invlpg(byte_ptr(SEEN))?;
        look(code)
    };
    assert_eq!(words(0, PCIDE, here), [0xa, 0xc]);
    let elsewhere = |code: &mut CodeAssembler| {
        look(code)?;
        change(code)?;
        switch(code, SECOND_TABLES | 1 | KEEP)?;
        code.invlpg(byte_ptr(SEEN))?;
        switch(code, FIRST | KEEP)?;
        look(code)
    };
    assert_eq!(words(GLOBAL, PGE | PCIDE, elsewhere), [0xa, 0xc]);
}

#[test]
fn invlpg_drops_a_large_page_whole() {
    let directory = TABLES + 0x2008;
    let code = assemble(64, CODE, |code| {
        code.mov(eax, dword_ptr(0x20_0008))?;
        say(code)?;
        code.mov(byte_ptr(directory + 2), 0)?; // from frame 2 MiB to frame 0
        code.invlpg(byte_ptr(0x3f_f000))?;
        code.mov(eax, dword_ptr(0x20_0008))?;
        say(code)?;
        done(code)
    });
    let mut guest = guest(0, 0, &code);
    guest.put_word(directory, 0x20_0087);
    guest.put_word(8, 0x55);
    let first = guest.word(0x20_0008) as u32;
    assert_eq!(guest.words().0, [first, 0x55]);
}

#[test]
fn invpcid_drops_what_its_kind_says() {
    // In the first space: look, change, go to the second, invalidate there, come back, look again.
    let after = |bits: u64, kind: u32, pcid: u64| {
        words(bits, PGE | PCIDE, |code| {
            look(code)?;
            change(code)?;
            switch(code, SECOND_TABLES | 1 | KEEP)?;
            invpcid(code, kind, pcid, SEEN)?;
            switch(code, FIRST | KEEP)?;
            look(code)
        })[1]
    };
    assert_eq!(after(0, 0, 0), 0xc, "one address");
    assert_eq!(after(0, 1, 0), 0xc, "one space");
    assert_eq!(after(0, 1, 1), 0xa, "another space");
    assert_eq!(after(GLOBAL, 1, 0), 0xa, "one space, not its global pages");
    assert_eq!(after(0, 2, 0), 0xc, "everything");
    assert_eq!(after(GLOBAL, 2, 0), 0xc, "everything, global pages too");
    assert_eq!(after(0, 3, 0), 0xc, "everything but global pages");
    assert_eq!(after(GLOBAL, 3, 0), 0xa, "everything but global pages");
}

#[test]
fn invpcid_refuses_what_it_must() {
    let fault = |features: u64, kind: u32, pcid: u64, address: u64| {
        words(0, features, |code| invpcid(code, kind, pcid, address)) == [0xdead]
    };
    assert!(fault(PCIDE, 4, 0, 0), "a kind that there is not");
    assert!(fault(PCIDE, 1, 0x1000, 0), "more than a PCID");
    assert!(fault(PCIDE, 0, 0, 1 << 47), "no canonical address");
    assert!(!fault(PCIDE, 1, 0, 1 << 47), "where no address counts");
    assert!(fault(0, 0, 1, 0) && fault(0, 1, 1, 0), "a PCID without CR4.PCIDE");
    assert!(!fault(0, 0, 0, 0) && !fault(0, 2, 1, 0));
}

#[test]
fn cr4_drops_global_pages_and_guards_pcid() {
    let toggled = |feature: u64| {
        words(GLOBAL, PGE, move |code| {
            look(code)?;
            change(code)?;
            set_cr4(code, feature)?;
            look(code)
        })
    };
    assert_eq!(toggled(PGE), [0xa, 0xc]);
    assert_eq!(toggled(PCIDE), [0xa, 0xc]);
    let with_low_bits = words(0, 0, |code| {
        switch(code, FIRST | 8)?;
        set_cr4(code, PCIDE)
    });
    assert_eq!(with_low_bits, [0xdead], "CR3's low bits are no PCID yet");
    let paging_off = words(0, PCIDE, |code| {
        code.mov(rax, cr0)?;
        code.btr(rax, 31)?;
        code.mov(cr0, rax)
    });
    assert_eq!(paging_off, [0xdead]);
}

/// Links between blocks skip the TLB: they must not outlive a translation, nor lead into another space.
#[test]
fn a_jump_to_another_page_goes_where_the_space_leads() {
    let target = SEEN;
    let code = assemble(64, CODE, |code| {
        let (mut again, mut call, mut over) =
            (code.create_label(), code.create_label(), code.create_label());
        code.mov(ebp, 6u32)?;
        code.set_label(&mut again)?;
        code.call(call)?;
        say(code)?;
        code.mov(rax, cr3)?;
        code.xor(rax, ((FIRST ^ SECOND_TABLES) | 1) as i32)?;
        code.bts(rax, 63)?;
        code.mov(cr3, rax)?;
        code.dec(ebp)?;
        code.jnz(again)?;
        code.jmp(over)?;
        code.set_label(&mut call)?;
        code.jmp(target)?;
        code.set_label(&mut over)?;
        done(code)
    });
    let mut guest = guest(0, PCIDE, &code);
    guest.put(FRAMES[0], &[0xb8, 1, 0, 0, 0, 0xc3]); // mov eax, 1; ret
    guest.put(FRAMES[1], &[0xb8, 2, 0, 0, 0, 0xc3]);
    assert_eq!(guest.words(), (vec![1, 2, 1, 2, 1, 2], End::Done));
}

/// Links within a page hold whatever is dropped: they must not lead from one frame into another that the page
/// had meanwhile, before anything was dropped.
#[test]
fn a_jump_within_a_page_stays_in_its_frame() {
    const INNER: u64 = 0x100;
    // Has the same place in the TLB.
    let other = SEEN + (4096 << 12);
    let code = assemble(64, CODE, |code| {
        let mut visit = code.create_label();
        let mut over = code.create_label();
        code.jmp(over)?;
        code.set_label(&mut visit)?;
        code.jmp(SEEN)?;
        code.set_label(&mut over)?;
        code.xor(ebx, ebx)?;
        for _ in 0..3 {
            code.call(visit)?;
        }
        say(code)?;
        code.mov(byte_ptr(Guest::entry_of(SEEN) + 1), 0x10)?;
        code.call(other)?;
        code.inc(ebx)?;
        for _ in 0..3 {
            code.call(visit)?;
        }
        code.mov(byte_ptr(Guest::entry_of(SEEN) + 1), 0)?;
        code.invlpg(byte_ptr(SEEN))?;
        for _ in 0..3 {
            code.call(visit)?;
            say(code)?;
        }
        done(code)
    });
    let outer = assemble(64, SEEN, |code| {
        code.mov(eax, 1)?;
        code.test(ebx, ebx)?;
        code.jnz(SEEN + INNER)?;
        code.ret()
    });
    let mut guest = guest(0, 0, &code);
    guest.put_word(TABLES + 0x2040, 0x31_0007);
    guest.put_word(0x31_0000 + (SEEN >> 12) * 8, FRAMES[2] | 7);
    guest.put(FRAMES[0], &outer);
    guest.put(FRAMES[0] + INNER, &[0xb8, 2, 0, 0, 0, 0xc3]); // mov eax, 2; ret
    guest.put(FRAMES[1] + INNER, &[0xb8, 3, 0, 0, 0, 0xc3]);
    guest.put(FRAMES[2], &[0xc3]);
    assert_eq!(guest.words(), (vec![1, 2, 2, 2], End::Done));
}
