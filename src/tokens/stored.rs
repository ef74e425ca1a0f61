//! What the seed remembers of a pool's tokens: one Secret, written before anything is made of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::format::Token;

/// Slot of the token that all machines of an open pool share. No machine can have this name.
pub const SHARED: &str = "*";

/// The tokens of one pool, by slot: a machine's name, or [`SHARED`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored(pub BTreeMap<String, Slot>);

/// What is remembered of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The one that user data names, or is about to.
    pub current: Token,
    /// The request that was granted, or is about to be, with a token of a listed machine.
    pub approval: Option<Approval>,
    /// Tokens that user data has named before, and how long they stay valid.
    pub retired: Vec<Retired>,
    /// Open pool: Nodes that were let in and are not labelled yet, with the request of each.
    pub admitted: BTreeMap<String, Approval>,
}

/// A token that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    pub token: Token,
    pub until: Timestamp,
}

/// A certificate signing request that is granted.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Name and UID of the request.
    pub request: String,
    pub uid: String,
    pub at: Timestamp,
}

impl Slot {
    /// A slot with a token that nobody knows yet.
    pub fn new(current: Token) -> Self {
        Self {
            current,
            approval: None,
            retired: Vec::new(),
            admitted: BTreeMap::new(),
        }
    }

    /// Every token of the slot.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        std::iter::once(&self.current).chain(self.retired.iter().map(|retired| &retired.token))
    }
}

impl Stored {
    /// Reads what [`Stored::write`] wrote. The error never repeats the text.
    pub fn read(bytes: &[u8]) -> Result<Self, StoredError> {
        let written: BTreeMap<String, Written> =
            serde_json::from_slice(bytes).map_err(|_| StoredError)?;
        let slots = written.into_iter().map(|(name, slot)| {
            let retired = slot.retired.into_iter().map(|(token, until)| {
                let token = token.parse().map_err(|_| StoredError)?;
                Ok(Retired { token, until })
            });
            let slot = Slot {
                current: slot.token.parse().map_err(|_| StoredError)?,
                approval: slot.approval,
                retired: retired.collect::<Result<_, StoredError>>()?,
                admitted: slot.admitted,
            };
            Ok((name, slot))
        });
        slots.collect::<Result<_, _>>().map(Self)
    }

    /// The text of the Secret.
    pub fn write(&self) -> Result<Zeroizing<Vec<u8>>, StoredError> {
        let reveal = |token: &Token| Zeroizing::new(token.reveal().to_string());
        let written: BTreeMap<&String, Written> = self
            .0
            .iter()
            .map(|(name, slot)| {
                let retired = slot.retired.iter();
                let slot = Written {
                    token: reveal(&slot.current),
                    approval: slot.approval.clone(),
                    retired: retired
                        .map(|retired| (reveal(&retired.token), retired.until))
                        .collect(),
                    admitted: slot.admitted.clone(),
                };
                (name, slot)
            })
            .collect();
        // Room for everything at once: growing would leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(1024 * (1 + self.0.len())));
        serde_json::to_writer(&mut *text, &written).map_err(|_| StoredError)?;
        Ok(text)
    }

    /// The slot that holds a token of this id.
    pub fn slot_of(&self, id: &str) -> Option<(&str, &Slot)> {
        self.0
            .iter()
            .find(|(_, slot)| slot.tokens().any(|token| token.id() == id))
            .map(|(name, slot)| (name.as_str(), slot))
    }

    /// Ids of all tokens.
    pub fn ids(&self) -> BTreeSet<&str> {
        let slots = self.0.values();
        slots.flat_map(Slot::tokens).map(Token::id).collect()
    }
}

/// The Secret with the tokens cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not hold the tokens as Seedbed writes them; delete it, and all tokens are made anew")]
pub struct StoredError;

#[derive(Deserialize, Serialize)]
struct Written {
    token: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approval: Option<Approval>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retired: Vec<(Zeroizing<String>, Timestamp)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    admitted: BTreeMap<String, Approval>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_never_shown() {
        let token = |id: &str| Token::new(id, "0123456789abcdef").unwrap();
        let approval = Approval {
            request: "node-csr-x".to_owned(),
            uid: "1".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        let mut slot = Slot::new(token("aaaaaa"));
        slot.approval = Some(approval.clone());
        slot.admitted.insert("n-1".to_owned(), approval);
        slot.retired.push(Retired {
            token: token("bbbbbb"),
            until: Timestamp::UNIX_EPOCH,
        });
        let stored = Stored(BTreeMap::from([("w-1".to_owned(), slot)]));
        let text = stored.write().unwrap();
        assert_eq!(Stored::read(&text), Ok(stored.clone()));
        assert!(!format!("{stored:?}").contains("0123456789abcdef"));
        assert_eq!(stored.slot_of("bbbbbb").unwrap().0, "w-1");
        for wrong in [&b"{"[..], b"[]", br#"{"a":{"token":"short"}}"#] {
            assert_eq!(Stored::read(wrong), Err(StoredError));
        }
    }
}
