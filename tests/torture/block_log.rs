//! What a disk was told to do, in order, and what of it may be on the disk when the power goes.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::FileExt,
};

use super::SEED;

/// The format of dm-log-writes: a sector with magic, version, count and sector size; then for each entry a sector that says sector, sectors,
/// flags and the length of a mark, and the data.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: usize = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// So much is written whole or not at all.
const BLOCK: usize = 4096;
/// Subsets that are tried of the writes between two flushes.
const SUBSETS: u64 = 3;

/// One thing that the disk was told.
#[derive(Debug, Clone)]
pub struct Entry {
    flags: u64,
    /// The byte it begins at.
    offset: u64,
    data: Vec<u8>,
    /// Where it stands in the log.
    noted_at: u64,
}

/// All that the disk was told.
pub struct BlockLog(Vec<Entry>);

/// A moment at which the power goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cut {
    /// So many entries the disk was told by then.
    pub at: usize,
    /// Of those since the last flush only some are on the disk: which ones is decided by this number. Without it: all.
    pub subset: Option<u64>,
}

fn number(log: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(log[at..at + 8].try_into().unwrap())
}

impl BlockLog {
    pub fn read(log: &[u8]) -> Self {
        assert_eq!((number(log, 0), number(log, 8)), (MAGIC, 1), "this is no log of writes");
        let (mut entries, mut at) = (Vec::new(), SECTOR);
        while at + SECTOR <= log.len() {
            let [sector, sectors, flags, mark] = [0, 8, 16, 24].map(|field| number(log, at + field));
            let length = sectors as usize * SECTOR;
            let (offset, begin, noted_at) = (sector * SECTOR as u64, at + SECTOR, at as u64);
            at = begin;
            let data = if flags & DISCARD == 0 {
                at += length;
                log[begin..at].to_vec()
            } else {
                vec![0; length]
            };
            if flags & MARK == 0 {
                entries.push(Entry { flags, offset, data, noted_at });
            } else {
                at += (mark as usize).next_multiple_of(SECTOR);
            }
        }
        Self(entries)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many entries were noted when the log had this length.
    pub fn entries_at(&self, length: u64) -> usize {
        self.0.iter().filter(|entry| entry.noted_at < length).count()
    }

    /// Every prefix, and of what lies between two flushes some subsets.
    pub fn cuts(&self) -> Vec<Cut> {
        let prefixes = (0..=self.len()).map(|at| Cut { at, subset: None });
        let is_end = |at: &usize| self.0.get(*at).is_none_or(|entry| entry.flags & FLUSH != 0);
        let ends = (0..=self.len()).filter(is_end).filter(|at| self.loose_blocks(*at) > 1);
        prefixes.chain(ends.flat_map(|at| (0..SUBSETS).map(move |subset| Cut { at, subset: Some(subset) }))).collect()
    }

    /// The first entry that no flush has followed by then.
    fn open_epoch(&self, at: usize) -> usize {
        self.0[..at].iter().rposition(|entry| entry.flags & FLUSH != 0).unwrap_or(0)
    }

    fn loose_blocks(&self, at: usize) -> usize {
        self.0[self.open_epoch(at)..at].iter().map(|entry| entry.data.len().div_ceil(BLOCK)).sum()
    }

    /// So many entries are on the disk in full at this cut.
    pub fn settled(&self, cut: &Cut) -> usize {
        if cut.subset.is_some() { self.open_epoch(cut.at) } else { cut.at }
    }

    /// Carries out the entries of this range.
    pub fn replay(&self, range: std::ops::Range<usize>, disk: &File) {
        for entry in &self.0[range] {
            disk.write_all_at(&entry.data, entry.offset).unwrap();
        }
    }

    /// Carries out what a cut leaves of the entries that are not settled.
    pub fn replay_subset(&self, cut: &Cut, disk: &File) {
        let begin = self.settled(cut);
        for (index, entry) in self.0[begin..cut.at].iter().enumerate() {
            for (block, data) in entry.data.chunks(BLOCK).enumerate() {
                if entry.flags & FUA != 0 || is_kept(cut, index, block) {
                    disk.write_all_at(data, entry.offset + (block * BLOCK) as u64).unwrap();
                }
            }
        }
    }
}

fn is_kept(cut: &Cut, entry: usize, block: usize) -> bool {
    let mut hasher = DefaultHasher::new();
    (*SEED, cut, entry, block).hash(&mut hasher);
    hasher.finish().is_multiple_of(2)
}

/// An entry as it stands in a log.
fn written(flags: u64, sector: u64, data: &[u8], mark: &[u8]) -> Vec<u8> {
    let sectors = if flags & DISCARD == 0 { data.len() / SECTOR } else { 1 };
    let mut bytes = [sector, sectors as u64, flags, mark.len() as u64].map(u64::to_le_bytes).concat();
    bytes.resize(SECTOR, 0);
    bytes.extend([data, mark].concat());
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

#[test]
fn a_log_is_cut_between_its_flushes() {
    let head = [MAGIC, 1].map(u64::to_le_bytes).concat();
    let mut log = [head, vec![0; SECTOR - 16]].concat();
    for (flags, sector, data, mark) in
        [(0, 0, vec![1; SECTOR], &b""[..]), (FLUSH, 0, vec![], b""), (MARK, 0, vec![], b"m"), (0, 1, vec![2; 2 * BLOCK], b"")]
    {
        log.extend(written(flags, sector, &data, mark));
    }
    let length = log.len() as u64;
    log.extend([written(DISCARD, 0, &[], b""), written(FUA, 2, &[3; SECTOR], b"")].concat());
    let log = BlockLog::read(&log);
    assert_eq!((log.len(), log.entries_at(length)), (5, 3));
    // Six prefixes, and subsets of what followed the only flush.
    assert_eq!(log.cuts().len(), 6 + SUBSETS as usize);
    assert_eq!(log.settled(&Cut { at: 5, subset: Some(0) }), 1);
    let disk = tempfile::NamedTempFile::new().unwrap();
    log.replay(0..5, disk.as_file());
    let bytes = std::fs::read(disk.path()).unwrap();
    assert_eq!([0, 1, 2, 3].map(|sector| bytes[sector * SECTOR]), [0, 2, 3, 2]);
}
