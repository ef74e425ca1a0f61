//! The revision of a machine config.

use sha2::{Digest, Sha256};

use super::{Contents, hex};

/// Bytes of the hash that the revision shows: 16 hexadecimal digits.
const SHOWN_BYTES: usize = 8;

/// Hash of what the machine should be. Lengths precede texts, so that no two contents give the
/// same input.
pub(super) fn of(contents: &Contents) -> String {
    let mut hash = Sha256::new();
    field(&mut hash, b"seedbed machine config 1");
    count(&mut hash, contents.files.len());
    for file in &contents.files {
        field(&mut hash, file.path.as_bytes());
        field(&mut hash, &file.mode.to_be_bytes());
        field(&mut hash, file.owner.as_bytes());
        field(&mut hash, &file.content);
    }
    for commands in [&contents.pre_commands, &contents.post_commands] {
        count(&mut hash, commands.len());
        for command in commands {
            field(&mut hash, command.as_bytes());
        }
    }
    let mut digest = hex(&hash.finalize());
    digest.truncate(2 * SHOWN_BYTES);
    digest
}

fn count(hash: &mut Sha256, number: usize) {
    hash.update((number as u64).to_be_bytes());
}

fn field(hash: &mut Sha256, bytes: &[u8]) {
    count(hash, bytes.len());
    hash.update(bytes);
}
