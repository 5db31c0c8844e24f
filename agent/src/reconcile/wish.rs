//! What is wanted: the spec of the node or of a caller, read, checked and put together with its inputs.

use std::collections::BTreeMap;

use super::commands::SpecSource;
use crate::{
    apply::state_problem,
    config::{FallbackPolicy, Settings},
    host::{
        clock,
        inputs::{self, SpecOnDisk, SpecText, digest_of},
        observe::Host,
    },
    observed::{
        entry::Content,
        record::{Applied, Mirrored, Record},
    },
    spec::{
        self, Fallback, InputName, SpecFile,
        desired::{self, Defaults, Desired, Inputs},
        names::Digest,
        problem::Problem,
    },
};

/// A spec that can be planned for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Spec and inputs.
    pub desired: Desired,
    /// What is worth knowing about them.
    pub notices: Vec<Problem>,
    /// Names of the inputs, for the watch.
    pub inputs: Vec<InputName>,
    /// Its files, so that it can be gone back to.
    pub texts: Vec<(String, Content)>,
    /// Content of the inputs, by the name the spec gives them.
    pub contents: BTreeMap<String, Content>,
}

/// What was found where the spec is.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Nothing.
    Missing,
    /// Something that cannot be used.
    Invalid {
        /// All that is wrong.
        problems: Vec<Problem>,
        /// Inputs it names, as far as it could be read.
        inputs: Vec<InputName>,
    },
    /// A spec.
    Spec(Box<Wish>),
}

impl Wanted {
    /// The inputs that are named, for the watch.
    #[must_use]
    pub fn inputs(&self) -> &[InputName] {
        match self {
            Self::Missing => &[],
            Self::Invalid { inputs, .. } => inputs,
            Self::Spec(wish) => &wish.inputs,
        }
    }
}

/// Reads the node's own spec.
#[must_use]
pub fn of_node(host: &Host, record: &Record) -> Wanted {
    let texts = match inputs::spec(&host.files, &host.settings.spec.path) {
        SpecOnDisk::Missing => return Wanted::Missing,
        SpecOnDisk::Unreadable(reason) => {
            let problem = Problem::new("spec.unreadable", reason, "mend it; the node stays as it is");
            return Wanted::Invalid { problems: vec![problem], inputs: Vec::new() };
        }
        SpecOnDisk::Texts(texts) => texts,
    };
    let digest = digest_of(&texts);
    let sent_along = record.inline_inputs_for == Some(digest);
    let state = host.state();
    let stored: BTreeMap<&str, &Digest> =
        record.inline_inputs.iter().filter(|_| sent_along).map(|(name, digest)| (name.as_str(), digest)).collect();
    let read = |names: &[&InputName]| {
        let mut found = inputs::read(
            &host.files,
            &names.iter().filter(|name| !stored.contains_key(name.to_string().as_str())).copied().collect::<Vec<_>>(),
            &host.settings.spec.secrets_dir,
        );
        for name in names {
            if let Some(digest) = stored.get(name.to_string().as_str()) {
                let content = state.object(digest).ok().flatten().map(|content| content.bytes().to_vec());
                found.insert(
                    (*name).clone(),
                    content.ok_or_else(|| "what was sent along with the spec is no longer in the state directory".into()),
                );
            }
        }
        found
    };
    match together(&host.settings, &texts, digest, read) {
        Ok(mut wish) => {
            wish.notices.extend(sent_along_notice(&stored));
            Wanted::Spec(Box::new(wish))
        }
        Err((problems, inputs)) => Wanted::Invalid { problems, inputs },
    }
}

fn sent_along_notice(stored: &BTreeMap<&str, &Digest>) -> Option<Problem> {
    let names = stored.keys().copied().collect::<Vec<_>>().join(", ");
    (!stored.is_empty()).then(|| {
        Problem::new(
            "inputs.sent-along",
            format!("the content of {names} came along with the last apply; files of that name on this node are not read"),
            "apply again, or edit the spec on the node, to change that",
        )
    })
}

/// Reads a caller's spec. A path in it is a file where the caller runs, so that every input has to come along.
///
/// # Errors
/// All problems at once.
pub fn of_caller(settings: &Settings, source: &SpecSource) -> Result<Wish, Vec<Problem>> {
    let texts = [SpecText { name: source.name.clone(), text: source.text.clone() }];
    let read = |names: &[&InputName]| -> Inputs {
        let content = |name: &InputName| source.inputs.get(&name.to_string()).cloned().ok_or_else(|| "it was not sent along".to_owned());
        names.iter().map(|name| ((*name).clone(), content(name))).collect()
    };
    together(settings, &texts, digest_of(&texts), read).map_err(|(problems, _)| problems)
}

fn together(
    settings: &Settings,
    texts: &[SpecText],
    digest: Digest,
    read_inputs: impl FnOnce(&[&InputName]) -> Inputs,
) -> Result<Wish, (Vec<Problem>, Vec<InputName>)> {
    let files: Vec<SpecFile<'_>> = texts.iter().map(|text| SpecFile { name: &text.name, text: &text.text }).collect();
    let read = spec::read(&files, settings.spec.cluster.as_deref()).map_err(|problems| (problems, Vec::new()))?;
    let names = read.spec.input_names();
    let inputs = read_inputs(&names);
    let known = inputs.iter().filter_map(|(name, content)| Some((name.to_string(), Content::from(content.as_ref().ok()?.clone()))));
    let contents = known.collect();
    let named: Vec<InputName> = names.into_iter().cloned().collect();
    let defaults = Defaults {
        dial_timeout: settings.policy.dial_timeout,
        fallback: match settings.policy.fallback {
            FallbackPolicy::Upstream => Fallback::Upstream,
            FallbackPolicy::None => Fallback::None,
        },
        now: clock::unix_seconds(),
    };
    match desired::resolve(&read.spec, digest, &inputs, defaults) {
        Ok((desired, mut notices)) => {
            notices.splice(0..0, read.notices);
            let texts = texts.iter().map(|text| (text.name.clone(), text.text.as_str().into())).collect();
            Ok(Wish { desired, notices, inputs: named, texts, contents })
        }
        Err(problems) => Err((problems, named)),
    }
}

impl Wish {
    /// For a way back that needs no spec.
    #[must_use]
    pub fn nothing() -> Self {
        let none = Digest::of(b"");
        Self {
            desired: Desired { targets: Vec::new(), upstream_login: None, digest: none, text_digest: none },
            notices: Vec::new(),
            inputs: Vec::new(),
            texts: Vec::new(),
            contents: BTreeMap::new(),
        }
    }

    /// How it is remembered once it is in effect.
    #[must_use]
    pub fn applied(&self) -> Applied {
        let Desired { digest, text_digest, .. } = self.desired;
        let hosts = self.desired.by_host().into_iter().map(|(host, targets)| Mirrored {
            host: host.as_str().to_owned(),
            endpoints: targets.iter().map(|target| target.endpoint.url()).collect(),
            falls_back: targets.iter().any(|target| target.fallback == Fallback::Upstream),
        });
        Applied {
            digest,
            text_digest,
            hosts: hosts.collect(),
            texts: self.texts.iter().map(|(name, text)| (name.clone(), text.digest())).collect(),
            inputs: self.contents.iter().map(|(name, content)| (name.clone(), content.digest())).collect(),
        }
    }

    /// The bytes that [`Wish::applied`] names.
    #[must_use]
    pub fn bytes(&self) -> Vec<Content> {
        self.texts.iter().map(|(_, text)| text.clone()).chain(self.contents.values().cloned()).collect()
    }
}

/// Reads a spec that was in effect once, as it was kept.
///
/// # Errors
/// When something of it is no longer kept, or cannot be used any more.
pub fn of_applied(host: &Host, applied: &Applied) -> Result<Wish, Vec<Problem>> {
    let state = host.state();
    let kept = |digest: &Digest, name: &str| {
        state.object(digest).map_err(|error| vec![state_problem(&error.into())])?.ok_or_else(|| {
            vec![Problem::new("generation.lost", format!("{name}, as it was then, is no longer in the state directory"), "apply it anew")]
        })
    };
    let mut texts = Vec::new();
    for (name, digest) in &applied.texts {
        let text = kept(digest, name)?.text().unwrap_or_default().to_owned();
        texts.push(SpecText { name: name.clone(), text });
    }
    let read = |names: &[&InputName]| -> Inputs {
        let content = |name: &InputName| applied.inputs.get(&name.to_string()).and_then(|digest| state.object(digest).ok().flatten());
        let content =
            |name: &InputName| content(name).map(|content| content.bytes().to_vec()).ok_or_else(|| "it is no longer kept".to_owned());
        names.iter().map(|name| ((*name).clone(), content(name))).collect()
    };
    together(&host.settings, &texts, applied.text_digest, read).map_err(|(problems, _)| problems)
}
