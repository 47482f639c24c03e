//! What is printed. Text from an image is made harmless for a terminal first; JSON does that by itself.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

/// A line on the standard output.
pub fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Text without characters that a terminal obeys.
pub fn clean(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_an_image() {
        assert_eq!(clean("base.q"), "base.q");
        assert_eq!(clean("a\x1b[2Jb\u{9b}c\n"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
    }
}
