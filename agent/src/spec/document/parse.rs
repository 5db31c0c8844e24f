//! From the events of the YAML parser to documents.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag, options};

use super::{
    super::{codes, quote},
    DEEPEST, Fault, MOST_BYTES, Mark, Node,
    build::{Builder, Opening, Word},
};

/// The documents of a stream, empty ones included; all places count from the beginning of the file.
pub fn parse(text: &str) -> Result<Vec<Node>, Fault> {
    if text.len() > MOST_BYTES {
        return Err(too_large(text.len()));
    }
    let mut builder = Builder::default();
    let mut documents = Vec::new();
    // The parser reads ahead of us, so it is given the same limits.
    let options = options! { emit_comments: false, flow_nesting_limit: DEEPEST as usize, block_nesting_limit: DEEPEST as usize };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax_fault(&error))?;
        documents.extend(take(&mut builder, event, span)?);
    }
    Ok(documents)
}

/// Hands one event on; a document comes back when it is whole.
fn take(builder: &mut Builder, event: Event<'_>, span: Span) -> Result<Option<Node>, Fault> {
    let at = mark(span);
    match event {
        Event::Scalar(text, style, anchor, tag) => {
            let is_plain = style == ScalarStyle::Plain;
            builder.scalar(Word { text: &text, is_plain }, Opening { at, anchor, tag: written(tag.as_deref()) })?;
        }
        Event::SequenceStart(_, anchor, tag) => builder.open_sequence(Opening { at, anchor, tag: written(tag.as_deref()) })?,
        Event::MappingStart(_, anchor, tag) => builder.open_mapping(Opening { at, anchor, tag: written(tag.as_deref()) })?,
        Event::SequenceEnd | Event::MappingEnd => builder.close()?,
        Event::Alias(anchor) => builder.alias(anchor, at)?,
        Event::DocumentEnd => return Ok(builder.take_document()),
        _ => {}
    }
    Ok(None)
}

/// The tag as a message shows it.
fn written(tag: Option<&Tag>) -> Option<String> {
    tag.map(|tag| quote::plain(&tag.to_string()))
}

fn mark(span: Span) -> Mark {
    Mark { line: counted(span.start.line()), column: counted(span.start.col()).saturating_add(1) }
}

fn counted(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn syntax_fault(error: &ScanError) -> Fault {
    let at = Mark { line: counted(error.marker().line()).max(1), column: counted(error.marker().col()).saturating_add(1) };
    if matches!(error.kind(), granit_parser::ErrorKind::RecursionLimitExceeded) {
        return Fault { at, ..super::build::too_deep(at) };
    }
    Fault { at, code: codes::YAML_SYNTAX, message: format!("this is not YAML: {}", quote::plain(&error.info())), remedy: "" }
}

fn too_large(bytes: usize) -> Fault {
    let message = format!("a spec has at most {MOST_BYTES} bytes, this file has {bytes}");
    Fault {
        at: Mark { line: 1, column: 1 },
        code: codes::FILE_SIZE,
        message,
        remedy: "split it into several files, or check that it is the right one",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Value, *};

    /// `line:column value` for every key and value, in order.
    fn places(node: &Node, lines: &mut Vec<String>) {
        let show = |at: Mark, what: &str| format!("{}:{} {what}", at.line, at.column);
        match &node.value {
            Value::Null => lines.push(show(node.at, "null")),
            Value::Scalar { text, .. } => lines.push(show(node.at, text)),
            Value::Tagged(tag) => lines.push(show(node.at, tag)),
            Value::Sequence(items) => items.iter().for_each(|item| places(item, lines)),
            Value::Mapping(entries) => entries.iter().for_each(|entry| {
                lines.push(show(entry.at, &format!("{}:", entry.key.as_deref().unwrap_or("?"))));
                places(&entry.value, lines);
            }),
        }
    }

    fn shown(text: &str) -> String {
        let mut lines = Vec::new();
        parse(text).unwrap().iter().for_each(|document| places(document, &mut lines));
        lines.join(" | ")
    }

    fn code(text: &str) -> (&'static str, u32, u32) {
        let fault = parse(text).unwrap_err();
        (fault.code, fault.at.line, fault.at.column)
    }

    #[test]
    fn places_count_from_the_files_start_through_all_documents() {
        assert_eq!(shown("# c\n---\na: 1\n---\nb:\n  - {c: ä, d: x}\n"), "3:1 a: | 3:4 1 | 5:1 b: | 6:6 c: | 6:9 ä | 6:12 d: | 6:15 x");
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_move_nothing() {
        assert_eq!(shown("\u{feff}a: 1\r\nb: 2\r\n"), "1:1 a: | 1:4 1 | 2:1 b: | 2:4 2");
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        assert_eq!(
            shown("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n"),
            "1:1 a: | 1:8 k: | 1:11 1 | 1:14 l: | 1:17 2 | 2:1 b: | 4:3 k: | 4:6 3 | 1:14 l: | 1:17 2"
        );
        assert_eq!(shown("a: &x [1]\nb: *x\n"), "1:1 a: | 1:8 1 | 2:1 b: | 1:8 1");
    }

    #[test]
    fn keys_that_are_not_text_are_kept_as_such() {
        assert_eq!(shown("[1, 2]: x\n? {a: b}\n: y\n1: z\n"), "1:1 ?: | 1:9 x | 2:3 ?: | 3:3 y | 4:1 1: | 4:4 z");
    }

    #[test]
    fn a_bomb_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for level in 1..=9 {
            let uses = vec![format!("*a{}", level - 1); 9].join(", ");
            text += &format!("a{level}: &a{level} [{uses}]\n");
        }
        assert_eq!(code(&text).0, codes::YAML_NODES);
    }

    #[test]
    fn depth_is_limited_in_every_style() {
        assert_eq!(code(&"[".repeat(20_000)), (codes::YAML_DEPTH, 1, 65));
        let block: String = (0..70).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert_eq!(code(&block).0, codes::YAML_DEPTH);
        assert_eq!(code(&format!("{}a\n", "- ".repeat(70))).0, codes::YAML_DEPTH);
        let chain: String = (1..70).map(|level| format!("- &a{level} [*a{}]\n", level - 1)).collect();
        assert_eq!(code(&format!("- &a0 [x]\n{chain}")).0, codes::YAML_DEPTH);
    }

    #[test]
    fn an_alias_in_itself_is_refused() {
        assert_eq!(code("a: &x [*x]\n"), (codes::YAML_ALIAS, 1, 8));
        assert_eq!(code("a: *x\n").0, codes::YAML_SYNTAX);
    }

    #[test]
    fn broken_text_says_where() {
        for text in ["a: [1\nb: 2\n", "a:\n\tb: 1\n", "a: 1\0\n", "a: \"x\n", "a: b: c\n", "a: 1\n b: 2\n"] {
            assert_eq!(code(text).0, codes::YAML_SYNTAX, "{text:?}");
        }
    }

    #[test]
    fn size_and_number_are_limited() {
        assert_eq!(code(&"a".repeat(MOST_BYTES + 1)), (codes::FILE_SIZE, 1, 1));
        assert_eq!(code(&"- a\n".repeat(super::super::MOST_NODES)).0, codes::YAML_NODES);
    }

    #[test]
    fn empty_text_has_no_documents() {
        assert!(parse("").unwrap().is_empty());
        assert!(parse("# only a comment\n").unwrap().is_empty());
    }
}
