//! `read_mask` of GetStatus: only the named fields are answered.

use prost_types::FieldMask;

use super::v1;
use crate::spec::{problem::Problem, quote::quoted};

/// Moves the named fields, each of the top level of `Status`, from one status to another.
macro_rules! keep {
    ($from:ident, $to:ident, $path:expr, [$($field:ident),+ $(,)?]) => {
        match $path {
            $(stringify!($field) => $to.$field.clone_from(&$from.$field),)+
            unknown => return Err(unknown_field(unknown, &[$(stringify!($field)),+])),
        }
    };
}

/// The status with the masked fields alone; all of them when there is no mask.
///
/// # Errors
/// When the mask names a field that `Status` does not have.
pub fn masked(status: v1::Status, mask: Option<&FieldMask>) -> Result<v1::Status, Problem> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else { return Ok(status) };
    let mut kept = v1::Status::default();
    for path in &mask.paths {
        keep!(
            status,
            kept,
            path.as_str(),
            [
                condition,
                summary,
                next_step,
                wanted_spec_digest,
                effective_generation,
                proof,
                containerd,
                hosts,
                endpoints,
                hold,
                pending,
                last_change,
                problems,
                notices,
                etag,
                agent_version,
                watch,
                spec_path,
                observed_at,
            ]
        );
    }
    Ok(kept)
}

fn unknown_field(path: &str, known: &[&str]) -> Problem {
    let message = format!("read_mask names {}, which is no field of Status", quoted(path));
    let mut problem = Problem::new("request.read-mask", message, format!("name some of {}", known.join(", ")));
    problem.field = "read_mask".into();
    problem
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::status::sample;

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask { paths: paths.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn only_what_is_named_is_answered() {
        let status = v1::Status::from(&sample::status());
        let kept = masked(status.clone(), Some(&mask(&["etag", "hosts"]))).unwrap();
        assert_eq!(kept, v1::Status { etag: status.etag, hosts: status.hosts, ..v1::Status::default() });
    }

    #[test]
    fn no_mask_means_everything() {
        let status = v1::Status::from(&sample::status());
        assert_eq!(masked(status.clone(), None).unwrap(), status);
        assert_eq!(masked(status.clone(), Some(&mask(&[]))).unwrap(), status);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let problem = masked(v1::Status::default(), Some(&mask(&["etag", "colour"]))).unwrap_err();
        assert!(problem.message.contains("\"colour\""), "{problem}");
    }

    #[test]
    fn every_field_of_status_can_be_named() {
        let set = prost_types::FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).unwrap();
        let messages = set.file.iter().flat_map(|file| &file.message_type);
        let status = messages.into_iter().find(|message| message.name() == "Status").unwrap();
        for field in &status.field {
            masked(v1::Status::default(), Some(&mask(&[field.name()]))).unwrap();
        }
    }
}
