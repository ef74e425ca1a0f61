//! How the document is stored: as it is, or compressed.
//!
//! All forms are ASCII text that cloud-init or Ignition reads by itself; why is in
//! `docs/adr/0010-stored-user-data.md`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libdeflater::{CompressionLvl, Compressor};
use zeroize::Zeroizing;

/// Largest user data that is stored as it is, in bytes: the least that a platform without
/// compression of its own takes (32 KiB).
pub const PLAIN_LIMIT_BYTES: usize = 32_768;

/// A message of one part, which cloud-init decodes, decompresses and then takes by its first line.
const COMPRESSED_HEADER: &str = "MIME-Version: 1.0\n\
                                 Content-Type: application/gzip\n\
                                 Content-Transfer-Encoding: base64\n\n";

/// Characters of base64 in a line: what mail allows at most (RFC 5322), and a multiple of four. RFC 2045 wants
/// 76, which would be 1 % more; cloud-init's parser takes either.
const LINE: usize = 996;

/// What is stored, or how many bytes it would be if that is over the budget.
pub(super) type Stored = Result<Zeroizing<Vec<u8>>, usize>;

/// A `#cloud-config`, or a message with it inside.
pub(super) fn cloud_config(document: Zeroizing<String>, budget_bytes: usize) -> Stored {
    let only_compressed = taken_for_mail(&document);
    stored(document, budget_bytes, only_compressed, compressed)
}

/// A config of Ignition, or one that holds the other.
pub(super) fn ignition(document: Zeroizing<String>, budget_bytes: usize) -> Stored {
    stored(document, budget_bytes, false, super::ignition::compressed)
}

fn stored(
    document: Zeroizing<String>,
    budget_bytes: usize,
    only_compressed: bool,
    compressed: impl FnOnce(&str) -> Zeroizing<Vec<u8>>,
) -> Stored {
    let plain_limit = PLAIN_LIMIT_BYTES.min(budget_bytes);
    if document.len() <= plain_limit && !only_compressed {
        return Ok(Zeroizing::new(document.as_bytes().to_vec()));
    }
    let compressed = compressed(&document);
    if compressed.len() <= budget_bytes {
        Ok(compressed)
    } else {
        Err(compressed.len())
    }
}

/// cloud-init takes user data for a mail message if this stands anywhere in its first 4096 bytes,
/// in a comment of a file as well (`convert_string` in its `user_data.py`).
fn taken_for_mail(document: &str) -> bool {
    let head = &document.as_bytes()[..document.len().min(4096)];
    head.to_ascii_lowercase()
        .windows(b"mime-version:".len())
        .any(|window| window == b"mime-version:")
}

fn compressed(document: &str) -> Zeroizing<Vec<u8>> {
    let encoded = Zeroizing::new(STANDARD.encode(gzip(document.as_bytes())));
    let lines = encoded.len() / LINE + 1;
    let size = COMPRESSED_HEADER.len() + encoded.len() + lines;
    let mut message = Zeroizing::new(Vec::with_capacity(size));
    message.extend_from_slice(COMPRESSED_HEADER.as_bytes());
    for line in encoded.as_bytes().chunks(LINE) {
        message.extend_from_slice(line);
        message.push(b'\n');
    }
    message
}

/// gzip with nothing in its header that could differ: no time, no name, system "unknown". Of the
/// compressors at hand this one packs tightest in milliseconds, 2 % below zlib's best.
pub(super) fn gzip(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut compressor = Compressor::new(CompressionLvl::best());
    let mut packed = Zeroizing::new(vec![0; compressor.gzip_compress_bound(bytes.len())]);
    let length = compressor.gzip_compress(bytes, &mut packed);
    packed.truncate(length.expect("the bound is never exceeded"));
    packed
}
