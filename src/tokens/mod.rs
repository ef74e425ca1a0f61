//! Bootstrap tokens of node pools: what each pool needs, and which request made with one is granted.
//!
//! Answers which tokens have to exist in the target and until when ([`plan`]), what their Secrets
//! look like ([`format`]), what is remembered of them in the seed ([`stored`]) and whether a
//! certificate signing request may be approved ([`request`], [`serving`]). Pure: `issue` alone makes
//! random material, and it is stored before anything is made of it. Never shows the secret half of
//! a token: `Debug` gives its public id.
//!
//! A new rule of a token's life goes into `plan`, a new reason to refuse a request into `refusal`.

pub mod format;
pub mod issue;
pub mod plan;
pub mod refusal;
pub mod request;
pub mod serving;
pub mod stored;

pub use format::{NODE_POOL_GROUP, Token};
pub use refusal::Refusal;
pub use stored::{Approval, SHARED, Slot, Stored};
