//! Whether a stream of bytes is a whole snapshot of etcd's database. Pure.
//!
//! etcd sends the database file, whose length is a multiple of 512 bytes, and the SHA-256 of it
//! behind. Neither `remaining_bytes` nor the end of the stream tells that all of it came.

use sha2::{Digest, Sha256};

/// Bytes of the SHA-256 at the end.
const TRAILER: usize = 32;
/// The length of a database is a multiple of this.
const SECTOR_BYTES: u64 = 512;
/// bbolt's magic number, little-endian, in each of its first two pages.
const MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();
/// Where it stands: behind the header of the first page.
const MAGIC_AT: usize = 16;

/// A snapshot that was read to its end and is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of the database.
    pub size_bytes: u64,
    /// SHA-256 of the database, hexadecimal.
    pub sha256: String,
}

/// Why a stream is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    #[error("the snapshot ends after {0} bytes, in the middle of the database")]
    Truncated(u64),
    #[error("the snapshot does not begin like a database of bbolt")]
    NotADatabase,
    #[error("the snapshot's SHA-256 is not the one that etcd sent")]
    Hash,
}

/// Takes a snapshot in, part by part, without holding more than its last bytes.
#[derive(Default)]
pub struct Verifier {
    hash: Sha256,
    hashed: u64,
    head: Vec<u8>,
    // May be the trailer; hashed as soon as more comes.
    tail: Vec<u8>,
}

impl Verifier {
    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        let head = MAGIC_AT + MAGIC.len();
        let missing = head.saturating_sub(self.head.len()).min(part.len());
        self.head.extend_from_slice(&part[..missing]);
        self.tail.extend_from_slice(part);
        let surplus = self.tail.len().saturating_sub(TRAILER);
        self.hash.update(&self.tail[..surplus]);
        self.hashed += surplus as u64;
        self.tail.drain(..surplus);
    }

    /// Says whether all of it came, and as it was sent.
    pub fn finish(self) -> Result<Verified, SnapshotFault> {
        let received = self.hashed + self.tail.len() as u64;
        if self.tail.len() < TRAILER
            || self.hashed == 0
            || !self.hashed.is_multiple_of(SECTOR_BYTES)
        {
            return Err(SnapshotFault::Truncated(received));
        }
        if self.head.get(MAGIC_AT..) != Some(&MAGIC) {
            return Err(SnapshotFault::NotADatabase);
        }
        let hash = self.hash.finalize();
        if hash.as_slice() != self.tail {
            return Err(SnapshotFault::Hash);
        }
        Ok(Verified {
            size_bytes: self.hashed,
            sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of two sectors with its trailer.
    fn snapshot() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..1024u32).map(|n| n.to_le_bytes()[0]).collect();
        bytes[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(&MAGIC);
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        bytes
    }

    fn verify(bytes: &[u8], part: usize) -> Result<Verified, SnapshotFault> {
        let mut verifier = Verifier::default();
        bytes.chunks(part).for_each(|part| verifier.update(part));
        verifier.finish()
    }

    #[test]
    fn a_whole_snapshot_is_accepted_in_parts_of_any_size() {
        for part in [1, 7, 31, 32, 33, 512, 4096] {
            assert_eq!(
                verify(&snapshot(), part).unwrap().size_bytes,
                1024,
                "{part}"
            );
        }
    }

    /// Fault 49: cut off, flipped or without its trailer.
    #[test]
    fn a_defective_snapshot_is_refused() {
        let whole = snapshot();
        for length in 0..whole.len() {
            assert!(verify(&whole[..length], 100).is_err(), "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(verify(&flipped, 100).is_err(), "byte {at}");
        }
    }
}
