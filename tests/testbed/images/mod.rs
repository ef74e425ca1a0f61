//! Container images made without a registry or a container daemon: docker-archive tars that
//! `ctr images import` reads. [`archive`] writes one archive for any number of images, [`content`]
//! says what is in the images that a test cluster needs.
//!
//! The same input gives the same bytes: entries are sorted, owned by root and dated 1970, so the
//! archive can be cached by its content.
//!
//! Must never: fetch anything. A new image goes into `content.rs`.
pub mod archive;
pub mod content;
pub mod userland;
