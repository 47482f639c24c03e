//! What a LUKS header says, in both ways of printing: names and nesting are qemu-img's.

use anyhow::Result;
use bulkhead_protocol::tool::{LuksFacts, SlotFacts};
use serde_json::{Value, json};

use crate::out::{clean, line};

/// For people, each line behind `margin`; `inside`: of an encrypted image.
pub fn print(facts: &LuksFacts, margin: &str, inside: bool) -> Result<()> {
    let LuksFacts { key_bits, mode, start, hash, uuid, payload, rounds, slots } = facts;
    line(format_args!("{margin}ivgen alg: {}", clean(start)))?;
    line(format_args!("{margin}hash alg: {}", clean(hash)))?;
    line(format_args!("{margin}cipher alg: aes-{key_bits}"))?;
    line(format_args!("{margin}uuid: {}", clean(uuid)))?;
    if inside {
        line(format_args!("{margin}format: luks"))?;
    }
    line(format_args!("{margin}cipher mode: {}", clean(mode)))?;
    line(format_args!("{margin}slots:"))?;
    for (number, SlotFacts { at, key }) in slots.iter().enumerate() {
        line(format_args!("{margin}    [{number}]:"))?;
        line(format_args!("{margin}        active: {}", key.is_some()))?;
        if let Some((rounds, _)) = key {
            line(format_args!("{margin}        iters: {rounds}"))?;
        }
        line(format_args!("{margin}        key offset: {at}"))?;
        if let Some((_, stripes)) = key {
            line(format_args!("{margin}        stripes: {stripes}"))?;
        }
    }
    line(format_args!("{margin}payload offset: {payload}"))?;
    Ok(line(format_args!("{margin}master key iters: {rounds}"))?)
}

/// For programs.
pub fn of(facts: &LuksFacts) -> Value {
    json!({
        "ivgen-alg": facts.start,
        "hash-alg": facts.hash,
        "cipher-alg": format!("aes-{}", facts.key_bits),
        "uuid": facts.uuid,
        "cipher-mode": facts.mode,
        "slots": facts.slots.iter().map(slot).collect::<Vec<_>>(),
        "payload-offset": facts.payload,
        "master-key-iters": facts.rounds,
    })
}

fn slot(facts: &SlotFacts) -> Value {
    match facts.key {
        Some((rounds, stripes)) => json!({
            "active": true, "iters": rounds, "key-offset": facts.at, "stripes": stripes,
        }),
        None => json!({ "active": false, "key-offset": facts.at }),
    }
}
