//! How a piece of somebody else's text is shown in a message: on one line, in quotes, not too long.

/// How many characters of a foreign text a message repeats.
const SHOWN: usize = 80;

/// The text in double quotes, control characters escaped, cut when it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text))
}

/// The text without quotes around it, otherwise like [`quoted`].
#[must_use]
pub fn plain(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(escaped).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Quotes and what a terminal would act on are escaped; every other character is itself.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_plain = character == '\'' || (!character.is_control() && character != '"' && character != '\\' && !is_invisible(character));
    let escape = (!is_plain).then(|| character.escape_default());
    is_plain.then_some(character).into_iter().chain(escape.into_iter().flatten())
}

/// Characters that change how their neighbours are shown, or are not shown at all.
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
