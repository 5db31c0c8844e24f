//! Puts the tree together, and keeps its budget.

use std::{collections::HashMap, rc::Rc};

use super::{super::codes, DEEPEST, Entry, Fault, MOST_NODES, Mark, Node, Value, mapping};

/// A scalar as the parser hands it over.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) is_plain: bool,
}

/// What stands in front of a node: its place, its anchor (0: none), its tag.
pub(super) struct Opening {
    pub(super) at: Mark,
    pub(super) anchor: usize,
    pub(super) tag: Option<String>,
}

/// A finished node, with what an alias to it would cost.
#[derive(Clone)]
struct Anchored {
    node: Node,
    /// Values in it, itself included.
    weight: usize,
    /// Levels in it, itself included.
    height: u32,
}

/// A list or mapping that is not closed yet.
struct Frame {
    opening: Opening,
    children: Children,
    /// Values counted when it was opened.
    counted_before: usize,
    /// Levels of the highest child so far.
    height: u32,
}

enum Children {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Node> },
}

/// Builds one document after the other.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    /// Values so far, aliases counted as often as they are used.
    counted: usize,
    root: Option<Node>,
}

impl Builder {
    pub(super) fn scalar(&mut self, word: Word<'_>, opening: Opening) -> Result<(), Fault> {
        self.count(1, opening.at)?;
        let value = match opening.tag {
            Some(tag) => Value::Tagged(tag),
            None if word.is_plain && is_null(word.text) => Value::Null,
            None => Value::Scalar { text: Rc::from(word.text), is_plain: word.is_plain },
        };
        let done = Anchored { node: Node { at: opening.at, value }, weight: 1, height: 0 };
        self.finish(done, opening.anchor)
    }

    pub(super) fn open_sequence(&mut self, opening: Opening) -> Result<(), Fault> {
        self.open(opening, Children::Sequence(Vec::new()))
    }

    pub(super) fn open_mapping(&mut self, opening: Opening) -> Result<(), Fault> {
        self.open(opening, Children::Mapping { entries: Vec::new(), key: None })
    }

    fn open(&mut self, opening: Opening, children: Children) -> Result<(), Fault> {
        if self.open.len() >= DEEPEST as usize {
            return Err(too_deep(opening.at));
        }
        self.count(1, opening.at)?;
        self.open.push(Frame { opening, children, counted_before: self.counted - 1, height: 0 });
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let Opening { at, anchor, tag } = frame.opening;
        let value = match (tag, frame.children) {
            (Some(tag), _) => Value::Tagged(tag),
            (None, Children::Sequence(items)) => Value::Sequence(items.into()),
            (None, Children::Mapping { entries, .. }) => Value::Mapping(mapping::merged(entries)?.into()),
        };
        let done = Anchored { node: Node { at, value }, weight: self.counted - frame.counted_before, height: frame.height + 1 };
        self.finish(done, anchor)
    }

    /// An anchor that is not finished yet is one the alias stands in.
    pub(super) fn alias(&mut self, anchor: usize, at: Mark) -> Result<(), Fault> {
        let Some(anchored) = self.anchors.get(&anchor).cloned() else {
            let message = "this alias stands inside the value it stands for".to_owned();
            return Err(Fault { at, code: codes::YAML_ALIAS, message, remedy: "write the value out" });
        };
        if self.open.len() + anchored.height as usize > DEEPEST as usize {
            return Err(too_deep(at));
        }
        self.count(anchored.weight, at)?;
        self.place(anchored.node, anchored.height);
        Ok(())
    }

    /// The document, when it is whole.
    pub(super) fn take_document(&mut self) -> Option<Node> {
        self.anchors.clear();
        self.root.take()
    }

    fn count(&mut self, weight: usize, at: Mark) -> Result<(), Fault> {
        self.counted += weight;
        if self.counted <= MOST_NODES {
            return Ok(());
        }
        let message = format!("a spec has at most {MOST_NODES} keys and values, counting an alias as often as it is used");
        Err(Fault { at, code: codes::YAML_NODES, message, remedy: "split it into several files, or write fewer aliases" })
    }

    fn finish(&mut self, done: Anchored, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, done.clone());
        }
        self.place(done.node, done.height);
        Ok(())
    }

    /// Hands a whole node to the list, mapping or document it stands in.
    fn place(&mut self, node: Node, height: u32) {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        frame.height = frame.height.max(height);
        match &mut frame.children {
            Children::Sequence(items) => items.push(node),
            Children::Mapping { entries, key } => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push(Entry::new(key, node)),
            },
        }
    }
}

impl Entry {
    fn new(key: Node, value: Node) -> Self {
        let (text, is_plain) = match key.value {
            Value::Scalar { text, is_plain } => (Some(text), is_plain),
            Value::Null => (Some(Rc::from("")), true),
            _ => (None, false),
        };
        Self { at: key.at, key: text, value, is_plain }
    }
}

/// The core schema's spellings of nothing.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

pub(super) fn too_deep(at: Mark) -> Fault {
    let message = format!("a spec is nested at most {DEEPEST} levels deep");
    Fault { at, code: codes::YAML_DEPTH, message, remedy: "check the brackets and the indentation here" }
}
