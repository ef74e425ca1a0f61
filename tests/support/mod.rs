//! What several tests need, beside the testbed.

pub mod cloud_init;
