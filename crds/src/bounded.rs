//! Text from elsewhere, cut and cleaned before it enters an API object or reaches a terminal.

/// Longest message kept in a status or condition, in bytes.
pub const MAX_MESSAGE: usize = 1024;
/// Longest message of one entry in a list of many, in bytes.
pub const MAX_ENTRY_MESSAGE: usize = 256;

/// `text` without control characters and at most `max` bytes long, cut on a character boundary.
///
/// Task names, log lines and module names come from nodes and registries: none of them may carry an escape sequence to
/// a terminal, or grow an object without limit.
pub fn bounded(text: &str, max: usize) -> String {
    const ELLIPSIS: char = '…';
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > max {
            while out.len() + ELLIPSIS.len_utf8() > max && out.pop().is_some() {}
            if ELLIPSIS.len_utf8() <= max {
                out.push(ELLIPSIS);
            }
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::bounded;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_do_not_survive() {
        assert_eq!(bounded("a\u{1b}[31mb\nc", 100), "a [31mb c");
    }

    proptest! {
        #[test]
        fn never_longer_than_asked_and_never_with_control_characters(text in ".{0,80}", max in 0usize..60) {
            let out = bounded(&text, max);
            prop_assert!(out.len() <= max);
            prop_assert!(!out.chars().any(char::is_control));
        }

        #[test]
        fn short_plain_text_is_unchanged(text in "[a-z ]{0,40}") {
            prop_assert_eq!(bounded(&text, 40), text);
        }
    }
}
