//! Text from a registry, made fit to be shown. No IO.

/// Longest text taken over from a registry, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 512;

/// One line without control characters (nor the ones that reorder text), at most [`MAX_TEXT_BYTES`] long.
pub(crate) fn line(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT_BYTES));
    for c in text.chars() {
        // A cut word ends in an ellipsis, which has 3 bytes.
        if clean.len() + c.len_utf8() > MAX_TEXT_BYTES - 3 {
            clean.push('…');
            break;
        }
        let blank = c.is_control() || c.is_whitespace() || is_invisible(c);
        match blank {
            false => clean.push(c),
            true if clean.is_empty() || clean.ends_with(' ') => {}
            true => clean.push(' '),
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// Characters that change how the text around them is read: bidirectional controls, zero-width ones, line separators.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_bounded_and_printable(text in r"(?s).{0,700}") {
            let line = line(&text);
            prop_assert!(line.len() <= MAX_TEXT_BYTES);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert_eq!(super::line(&line), line);
        }
    }

    #[test]
    fn terminal_controls_are_gone() {
        assert_eq!(line("\u{1b}[31mred\r\n\u{202e}txt  "), "[31mred txt");
    }
}
