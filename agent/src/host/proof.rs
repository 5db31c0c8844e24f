//! Whether the running containerd uses what is ours: host directories by a live read; the legacy tables, which it reads only when it starts, by
//! its own dump of the config and, where the CRI's Status shows them, by the settings of the process itself.

use super::{clock, commands, containerd::Containerd, cri::Cri, live_read, observe::Host};
use crate::{
    config::Layout,
    observed::{
        Config, Containerd as ContainerdFacts, Fact, Place, Process,
        effective::{ConfigText, Registry},
        record::Record,
        version::Version,
    },
};

impl Host {
    /// What is known of it at a look.
    pub(super) async fn proven(
        &self,
        client: &Containerd,
        facts: &ContainerdFacts,
        record: &Record,
        config: &Config,
        registry: &Registry,
    ) -> Fact<bool> {
        let Some(process) = facts.process.known() else { return Fact::Unknown("containerd does not run".into()) };
        if self.is_known(record, process) {
            return Fact::Known(true);
        }
        if !self.is_laid_out(record, registry) {
            return Fact::Unknown("there is nothing of ours to read".into());
        }
        let shows_registry = facts.running.known().is_some_and(Version::shows_registry);
        if self.settings.containerd.layout == Layout::Legacy && !shows_registry && facts.started_ms <= config.changed_ms() {
            return Fact::Unknown("it was started before its config changed last, and does not show what it was started with".into());
        }
        self.prove(client, &facts.place, process).await
    }

    /// A proof of this process stays one; of the legacy tables only as long as what it was started with is known as well.
    fn is_known(&self, record: &Record, process: &Process) -> bool {
        let is_proven = record.proof.as_ref().is_some_and(|proof| proof.process == *process);
        let is_loaded = record.loaded.as_ref().is_some_and(|loaded| loaded.process == *process);
        is_proven && (is_loaded || self.settings.containerd.layout == Layout::Hosts)
    }

    fn is_laid_out(&self, record: &Record, registry: &Registry) -> bool {
        let config_path = registry.config_path.as_deref().unwrap_or_default();
        match self.settings.containerd.layout {
            Layout::Hosts => config_path == self.settings.containerd.hosts_dir && !record.owned.is_empty(),
            Layout::Legacy => config_path.is_empty() && record.legacy.is_some(),
        }
    }

    /// Asks the running containerd to show that it uses what is ours.
    pub async fn prove(&self, client: &Containerd, place: &Place, process: &Process) -> Fact<bool> {
        match self.settings.containerd.layout {
            Layout::Hosts => self.ask_live_read(client, process).await,
            Layout::Legacy => self.uses_tables(client, place).await.into(),
        }
    }

    async fn ask_live_read(&self, client: &Containerd, process: &Process) -> Fact<bool> {
        let nonce = format!("{:x}{:x}", clock::unix_millis(), process.pid);
        let nonce = crate::spec::names::Digest::of(nonce.as_bytes()).short().to_string();
        live_read::ask(&self.files, &self.settings.containerd.hosts_dir, &Cri::on(client.channel()), &nonce).await.into()
    }

    async fn uses_tables(&self, client: &Containerd, place: &Place) -> Result<bool, String> {
        let errors = client.cri_plugin_errors().await.map_err(|error| error.to_string())?;
        if let Some(error) = errors.first() {
            return Err(error.clone());
        }
        let found = self.files.read(&place.config).map_err(|error| error.to_string())?;
        let wanted = registry_of(&place.config, found.as_ref().map_or(Some(""), |found| found.content.text()))?;
        let dump = commands::containerd_config_dump(&place.binary, &place.config).await.map_err(|error| error.to_string())?;
        let shown = Cri::on(client.channel()).mirrors().await.map_err(|error| error.to_string())?;
        let is_dumped = registry_of("config dump", Some(&dump))?.has_mirrors_of(&wanted);
        Ok(is_dumped && shown.is_none_or(|shown| wanted.mirrors.iter().all(|(name, endpoints)| shown.get(name) == Some(endpoints))))
    }
}

fn registry_of(path: &str, text: Option<&str>) -> Result<Registry, String> {
    ConfigText::parse(path, text).map(|parsed| parsed.registry()).map_err(|problem| problem.to_string())
}
