//! Shows the running containerd host directories that are not live yet: it is asked through its Transfer service, which looks into the
//! directory it is given, to pull a nonce that only a listener of ours is asked for. Where the listener does not see it, containerd cannot
//! use the file. Nothing is stored, no mirror and no registry is asked, nothing stays.

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tonic::Status;

use super::{
    clock,
    containerd::Containerd,
    files::{FileError, Files},
    listener::Listener,
    live_read::is_silence,
};
use crate::{
    config::STAGED_DIR,
    observed::entry::{Attributes, Content},
    plan::staged::{self, Staged},
    render::host_directory::HOSTS_TOML,
};

/// It answers in a few milliseconds; an apply is not kept longer than this.
const DEADLINE: Duration = Duration::from_secs(5);

/// What containerd makes of a file it cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It takes it for no file at all, and asks the registry itself.
    Ignored,
    /// Every pull through it fails; its own words.
    Refused(String),
}

/// Where host directories are staged, and who is shown them.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The node's files.
    pub files: &'a Files,
    /// The running containerd.
    pub client: &'a Containerd,
    /// Who is asked in place of mirrors and registries.
    pub listener: &'a Listener,
    /// Where the live ones are: files that do not change are taken from there.
    pub hosts_dir: &'a str,
}

impl Stage<'_> {
    /// Which of these the running containerd cannot use.
    ///
    /// # Errors
    /// When it could not be asked; a sentence.
    pub async fn ask(self, all: &[Staged]) -> Result<Vec<(&Staged, Unread)>, String> {
        clear(self.files);
        let asked = timeout(DEADLINE, self.show(all)).await;
        clear(self.files);
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())))
    }

    async fn show(self, all: &[Staged]) -> Result<Vec<(&Staged, Unread)>, String> {
        // One that cannot but work: without it, nothing is said of the others.
        let plain = staged::plain(&self.listener.url());
        let nonce = format!("{:x}", clock::unix_millis());
        let name = |index: usize| self.listener.nobody([0, index as u8]);
        let mut calls = JoinSet::new();
        for (index, staged) in all.iter().chain([&plain]).enumerate() {
            self.place(&name(index), staged).map_err(|error| error.to_string())?;
            let (client, reference) = (self.client.clone(), format!("{}/{}:staged", name(index), repository(&nonce, index)));
            calls.spawn(async move { (index, client.resolve_by(&reference, STAGED_DIR).await) });
        }
        let requests = RefCell::new(String::new());
        let answers = tokio::select! {
            never = listen(self.listener, &requests) => match never {},
            answers = calls.join_all() => BTreeMap::from_iter(answers),
        };
        let requests = requests.into_inner();
        let is_unseen = |index: &usize| !requests.contains(&format!("/{}/", repository(&nonce, *index)));
        let mut unread = Vec::new();
        for (index, answer) in answers.into_iter().filter(|(index, _)| is_unseen(index)) {
            match (all.get(index), answer.err()) {
                (Some(staged), status) if !status.as_ref().is_some_and(is_silence) => {
                    unread.push((staged, self.judged(&name(index), staged, status.as_ref())));
                }
                (_, status) => return Err(status.as_ref().map_or("it pulled what nobody has", Status::message).to_owned()),
            }
        }
        Ok(unread)
    }

    fn place(self, name: &str, staged: &Staged) -> Result<(), FileError> {
        let Self { files, hosts_dir, .. } = self;
        let directory = format!("{STAGED_DIR}/{name}");
        let put = |file: &str, content: &Content| files.put(&format!("{directory}/{file}"), content, &Attributes::root(0o600));
        files.make_own_directory(STAGED_DIR)?;
        files.make_own_directory(&directory)?;
        let of = staged.names.first().map_or("", String::as_str);
        for (file, content) in &staged.files {
            let content = match content {
                Some(content) => Some(content.clone()),
                None => files.read(&format!("{hosts_dir}/{of}/{file}"))?.map(|found| found.content),
            };
            content.map_or(Ok(()), |content| put(file, &content))?;
        }
        put(HOSTS_TOML, &staged.hosts_toml)
    }

    /// containerd's words speak of the staged file; the reader knows only the one it is to become.
    fn judged(self, name: &str, staged: &Staged, status: Option<&Status>) -> Unread {
        let words = status.map_or("", Status::message);
        if words.contains(&format!("//{name}/")) {
            return Unread::Ignored;
        }
        let of = staged.names.first().map_or("", String::as_str);
        Unread::Refused(words.replace(&format!("{STAGED_DIR}/{name}"), &format!("{}/{of}", self.hosts_dir)))
    }
}

/// What is left when nobody cleans up after it.
pub fn clear(files: &Files) {
    if files.is_directory(STAGED_DIR) {
        let _ = files.remove(STAGED_DIR);
    }
}

fn repository(nonce: &str, index: usize) -> String {
    format!("mirrorlet/{nonce}-{index}")
}

async fn listen(listener: &Listener, requests: &RefCell<String>) -> Infallible {
    loop {
        let request = listener.next().await;
        requests.borrow_mut().push_str(&request);
    }
}
