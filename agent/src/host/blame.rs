//! When a path was last changed.

use super::observe::Host;
use crate::observed::generation::Touch;

impl Host {
    /// The last change of a path; of one that is gone, of the directory it was in.
    #[must_use]
    pub fn touch(&self, path: &str) -> Touch {
        let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        let changed_ms = self.files.changed_ms(path).or_else(|| self.files.changed_ms(directory));
        Touch { time: changed_ms.map_or(0, |changed_ms| changed_ms / 1000), by: String::new() }
    }
}
