//! For the person in front of a node: a pull through the CRI to see what happens. Doctor, explain and audit come here too.

pub mod test_pull;
