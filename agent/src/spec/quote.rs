//! How a piece of somebody else's text is shown in a message: on one line, in quotes, not too long.

/// How many characters of a foreign text a message repeats.
const SHOWN: usize = 80;

/// The text in double quotes, cut when it is long; quotes, backslashes and what a terminal would act on are escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", cut(text, |character| is_unsafe(character) || matches!(character, '"' | '\\')))
}

/// The text without quotes around it, cut when it is long; only what a terminal would act on is escaped.
#[must_use]
pub fn plain(text: &str) -> String {
    cut(text, is_unsafe)
}

fn cut(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::new();
    for character in text.chars().take(SHOWN) {
        if is_escaped(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters, and those that change how their neighbours are shown or are not shown at all.
fn is_unsafe(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text as a field path element: as it is when it is a plain word, else quoted.
#[must_use]
pub fn field_word(text: &str) -> String {
    let is_word = !text.is_empty() && text.len() <= SHOWN && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/".contains(&b));
    if is_word { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_acts_on_comes_through() {
        assert_eq!(quoted("a\u{1b}[31m\n\"b\"\u{202e}é"), r#""a\u{1b}[31m\n\"b\"\u{202e}é""#);
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(plain(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
