//! Merge keys (`<<`), which tools still write although YAML 1.2 has dropped them.

use std::{collections::HashSet, rc::Rc};

use super::{super::codes, Entry, Fault, Mark, Node, Value};

/// The entries with every `<<` replaced by what it names: own keys win, then earlier merges.
pub(super) fn merged(entries: Vec<Entry>) -> Result<Vec<Entry>, Fault> {
    if !entries.iter().any(is_merge) {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_merge);
    let mut known: HashSet<Rc<str>> = own.iter().filter_map(|entry| entry.key.clone()).collect();
    for merge in merges {
        add(&merge.value, merge.at, &mut own, &mut known)?;
    }
    Ok(own)
}

fn is_merge(entry: &Entry) -> bool {
    entry.is_plain && entry.key.as_deref() == Some("<<")
}

/// Adds what is not known yet from a mapping, or from each mapping of a list.
fn add(source: &Node, at: Mark, entries: &mut Vec<Entry>, known: &mut HashSet<Rc<str>>) -> Result<(), Fault> {
    match &source.value {
        Value::Mapping(more) => {
            let new: Vec<Entry> = more.iter().filter(|entry| entry.key.as_ref().is_none_or(|key| !known.contains(key))).cloned().collect();
            known.extend(new.iter().filter_map(|entry| entry.key.clone()));
            entries.extend(new);
            Ok(())
        }
        Value::Sequence(sources) if sources.iter().all(|one| matches!(one.value, Value::Mapping(_))) => {
            sources.iter().try_for_each(|one| add(one, at, entries, known))
        }
        _ => {
            let message = "<< must name a mapping or a list of mappings".to_owned();
            Err(Fault { at, code: codes::YAML_MERGE, message, remedy: "write the keys out" })
        }
    }
}
