//! proto <-> domain, in both directions and nowhere else.
//!
//! What a peer may have got wrong is refused here with a [`crate::spec::problem::Problem`]; an enum value that is not known reads as the
//! most cautious one that is.

pub mod failure;
pub mod mask;
mod order;
mod outcome;
mod page;
mod plan;
mod problem;
mod pull;
mod status;

pub use mirrorlet_proto::v1;
pub use order::{apply_order, apply_request, body_digest, facts_response, plan_order, plan_request, restore_order, restore_request};
pub use outcome::{apply_event, apply_response, ended_response};
pub use page::Page;
pub use problem::{MOST_PROBLEMS, problem_views, problems};
pub use pull::{pull_event, pull_order, pull_request, pull_response};
