//! `target.xml`: the table of registers in gdb's words.
//!
//! gdb's manual, "Target Description Format" and "i386 Features". Types that are not built in are spelled
//! out.

use std::fmt::Write;

use crate::registers::groups;

const FLAGS: [(&str, u8); 17] = [
    ("CF", 0),
    ("", 1),
    ("PF", 2),
    ("AF", 4),
    ("ZF", 6),
    ("SF", 7),
    ("TF", 8),
    ("IF", 9),
    ("DF", 10),
    ("OF", 11),
    ("NT", 14),
    ("RF", 16),
    ("VM", 17),
    ("AC", 18),
    ("VIF", 19),
    ("VIP", 20),
    ("ID", 21),
];

const MXCSR: [(&str, u8); 14] = [
    ("IE", 0),
    ("DE", 1),
    ("ZE", 2),
    ("OE", 3),
    ("UE", 4),
    ("PE", 5),
    ("DAZ", 6),
    ("IM", 7),
    ("DM", 8),
    ("ZM", 9),
    ("OM", 10),
    ("UM", 11),
    ("PM", 12),
    ("FZ", 15),
];

/// How a vector register may be looked at: name of the element in the union, its type, how many.
const LANES: [(&str, &str, u8); 6] = [
    ("v4_float", "ieee_single", 4),
    ("v2_double", "ieee_double", 2),
    ("v16_int8", "int8", 16),
    ("v8_int16", "int16", 8),
    ("v4_int32", "int32", 4),
    ("v2_int64", "int64", 2),
];

/// The description.
pub fn xml() -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n\
         <target version=\"1.0\"><architecture>i386:x86-64</architecture>\n",
    );
    for (name, registers) in groups() {
        let _ = writeln!(text, "<feature name=\"{name}\">");
        match name {
            "org.gnu.gdb.i386.core" => flags(&mut text, "i386_eflags", &FLAGS),
            "org.gnu.gdb.i386.sse" => {
                lanes(&mut text);
                flags(&mut text, "i386_mxcsr", &MXCSR);
            }
            _ => {}
        }
        for register in registers {
            let (name, bits, kind) = (register.name, register.bits, register.kind);
            let _ = writeln!(text, "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"/>");
        }
        text += "</feature>\n";
    }
    text + "</target>\n"
}

fn flags(text: &mut String, name: &str, fields: &[(&str, u8)]) {
    let _ = writeln!(text, "<flags id=\"{name}\" size=\"4\">");
    for (field, bit) in fields {
        let _ = writeln!(text, "<field name=\"{field}\" start=\"{bit}\" end=\"{bit}\"/>");
    }
    *text += "</flags>\n";
}

fn lanes(text: &mut String) {
    for (name, kind, count) in LANES {
        let _ = writeln!(text, "<vector id=\"{name}\" type=\"{kind}\" count=\"{count}\"/>");
    }
    *text += "<union id=\"vec128\">\n";
    for (name, _, _) in LANES {
        let _ = writeln!(text, "<field name=\"{name}\" type=\"{name}\"/>");
    }
    *text += "<field name=\"uint128\" type=\"uint128\"/></union>\n";
}
