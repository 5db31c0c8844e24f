//! Who may call what: the one place that decides, for every method of every service.
//!
//! Whoever can open the socket may look. What changes the node, and a test pull (it fetches, with a login, in root's name), needs uid 0. A
//! method that is not listed needs uid 0 too.

use tonic::{Code, Status, transport::server::UdsConnectInfo};

use crate::{spec::quote::plain, wire::failure};

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// That it could open the socket.
    Socket,
    /// That it is root.
    Root,
}

/// The uid that may do everything.
pub const ROOT: u32 = 0;

/// Every method there is.
const METHODS: [(&str, Need); 18] = [
    ("/mirrorlet.v1.MirrorService/GetStatus", Need::Socket),
    ("/mirrorlet.v1.MirrorService/GetNodeFacts", Need::Socket),
    ("/mirrorlet.v1.MirrorService/WatchStatus", Need::Socket),
    ("/mirrorlet.v1.MirrorService/PlanSpec", Need::Socket),
    ("/mirrorlet.v1.MirrorService/ListGenerations", Need::Socket),
    ("/mirrorlet.v1.MirrorService/GetGeneration", Need::Socket),
    ("/mirrorlet.v1.DiagnosticsService/ExplainReference", Need::Socket),
    ("/grpc.health.v1.Health/Check", Need::Socket),
    ("/grpc.health.v1.Health/Watch", Need::Socket),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Socket),
    ("/mirrorlet.v1.MirrorService/ApplySpec", Need::Root),
    ("/mirrorlet.v1.MirrorService/ConfirmGeneration", Need::Root),
    ("/mirrorlet.v1.MirrorService/RevertGeneration", Need::Root),
    ("/mirrorlet.v1.MirrorService/ResumeSpec", Need::Root),
    ("/mirrorlet.v1.MirrorService/RestoreOriginal", Need::Root),
    ("/mirrorlet.v1.PullService/TestPull", Need::Root),
    ("/mirrorlet.v1.DiagnosticsService/RunDoctor", Need::Root),
    ("/mirrorlet.v1.DiagnosticsService/AuditImages", Need::Root),
];

/// What a method asks of its caller.
#[must_use]
pub fn need(method: &str) -> Need {
    METHODS.iter().find(|(name, _)| *name == method).map_or(Need::Root, |(_, need)| *need)
}

/// Whether a caller may call a method; the kernel says who it is, and it may not know. `root` is the uid that may do everything.
///
/// # Errors
/// When it may not.
pub fn check(method: &str, uid: Option<u32>, root: u32) -> Result<(), Status> {
    if need(method) == Need::Socket || uid == Some(root) {
        return Ok(());
    }
    let name = method.rsplit('/').next().unwrap_or(method);
    let caller = uid.map_or_else(|| "a caller the kernel does not know".to_owned(), |uid| format!("uid {uid}"));
    let message = format!("only root may call {name}, and this is {caller}; repeat it as root, e.g. with sudo");
    Err(failure::failed(Code::PermissionDenied, "access.not-root", message))
}

/// The caller's uid as the kernel gives it.
#[must_use]
pub fn uid(connection: Option<&UdsConnectInfo>) -> Option<u32> {
    connection.and_then(|connection| connection.peer_cred).map(|credentials| credentials.uid())
}

/// Who asked, for record and log: the uid, and what the caller says of itself.
#[must_use]
pub fn who(uid: Option<u32>, client: &str) -> String {
    let uid = uid.map_or_else(|| "unknown uid".to_owned(), |uid| format!("uid {uid}"));
    if client.is_empty() { uid } else { format!("{uid} ({})", plain(client)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;
    use crate::wire::v1::FILE_DESCRIPTOR_SET;

    fn all_methods() -> BTreeSet<String> {
        let mut methods = BTreeSet::new();
        for set in [FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET] {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    methods.extend(service.method.iter().map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_is_listed_once_and_no_other() {
        let listed: BTreeSet<String> = METHODS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed.len(), METHODS.len());
        assert_eq!(listed, all_methods());
    }

    #[test]
    fn what_changes_the_node_needs_root() {
        for (method, need) in METHODS {
            assert!(check(method, Some(ROOT), ROOT).is_ok(), "{method}");
            for uid in [Some(1000), None] {
                assert_eq!(check(method, uid, ROOT).is_ok(), need == Need::Socket, "{method}");
            }
        }
        assert!(check("/mirrorlet.v1.MirrorService/Unheard", Some(1), ROOT).is_err());
    }

    #[test]
    fn a_denial_names_method_caller_and_remedy() {
        let status = check("/mirrorlet.v1.PullService/TestPull", Some(1000), ROOT).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "only root may call TestPull, and this is uid 1000; repeat it as root, e.g. with sudo");
    }

    #[test]
    fn who_is_the_uid_and_what_the_caller_says() {
        assert_eq!(who(Some(0), "mirrorctl apply"), "uid 0 (mirrorctl apply)");
        assert_eq!(who(Some(0), ""), "uid 0");
        assert_eq!(who(None, "a\nb"), "unknown uid (a\\nb)");
    }
}
