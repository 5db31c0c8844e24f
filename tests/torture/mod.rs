//! Breaking it on purpose, at every point there is. `make torture` (`MIRRORLET_TORTURE=whole`) tries all of them; every other test run tries
//! a tenth of each row, chosen by a seed that is printed and can be given again as `MIRRORLET_SEED`.

mod block_log;
mod boot;
mod confirm;
mod daemon;
mod disk;
mod faults;
mod full;
mod heartbeat;
mod names;
mod phases;
mod points;
mod power;
mod reader;
mod reads;
mod rivals;
mod scenario;
mod short_writes;
mod sick;
mod soak;

use std::{
    env,
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

static SEED: LazyLock<u64> = LazyLock::new(|| {
    let given = env::var("MIRRORLET_SEED").ok().map(|seed| seed.parse().expect("MIRRORLET_SEED is a number"));
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
});

/// Whether everything is tried.
pub fn is_whole() -> bool {
    env::var("MIRRORLET_TORTURE").is_ok_and(|what| what == "whole")
}

/// The points of a row that are tried in this run: all, or every tenth and at least one.
fn chosen<P: Hash + Clone>(row: &str, points: &[P]) -> Vec<P> {
    if is_whole() {
        return points.to_vec();
    }
    println!("{row}: MIRRORLET_SEED={}", *SEED);
    let rank = |point: &P| {
        let mut hasher = DefaultHasher::new();
        (*SEED, row, point).hash(&mut hasher);
        hasher.finish()
    };
    let mut points = points.to_vec();
    points.sort_by_key(rank);
    points.truncate(points.len().div_ceil(10));
    points
}

#[test]
fn a_tenth_is_a_tenth() {
    let points: Vec<usize> = (0..95).collect();
    let tried = chosen("row", &points).len();
    assert!(tried == 10 || tried == 95 && is_whole());
    assert_eq!(chosen("row", &[1]), [1]);
}
