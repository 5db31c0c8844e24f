//! The names everything else is said in: registry hosts, mirror endpoints, image references, digests.
//!
//! A value of one of these types has been checked: it holds nothing that a path, a TOML value or a header would take amiss.

mod capability;
mod digest;
mod endpoint;
mod namespace;
mod reference;
mod registry_host;

pub use capability::Capability;
pub use digest::Digest;
pub use endpoint::{Endpoint, Scheme};
pub use namespace::Namespace;
pub use reference::Reference;
pub use registry_host::RegistryHost;
pub(super) use registry_host::is_label;
