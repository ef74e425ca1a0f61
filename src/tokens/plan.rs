//! The life of a pool's tokens: which have to be made, kept alive, replaced and taken away. Pure.
//!
//! The steps of one plan are carried out in the order of [`Steps`], each only when nothing is left
//! of those before it, with user data published between [`Steps::ensure`] and [`Steps::revoke`].
//! So no user data ever names a token that is not there, wherever a crash falls: a token is stored
//! before it is made, made before it is named, and no longer named before it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::format::{Live, Token, whole_seconds};
use super::stored::{Retired, SHARED, Slot, Stored};

/// What the plan stands on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the seed remembers.
    pub stored: &'a Stored,
    /// What the target has of those tokens, by id.
    pub live: &'a BTreeMap<String, Live>,
    /// Slots that need a token: machines that have not joined, or [`SHARED`].
    pub needed: &'a BTreeSet<String>,
    /// Ids that published user data names.
    pub published: &'a BTreeSet<String>,
    /// UIDs of the requests that are not decided yet.
    pub undecided: &'a BTreeSet<String>,
    pub ttl: Duration,
    pub now: Timestamp,
}

/// What is to be done, first to last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Slots that get a new token, which is to be stored.
    pub renew: BTreeMap<String, Renewal>,
    /// Tokens that have to exist in the target, with this expiration.
    pub ensure: Vec<Ensure>,
    /// Ids to be deleted from the target.
    pub revoke: Vec<String>,
    /// What is to be stored after that, if it differs.
    pub forget: Option<Stored>,
}

/// What becomes of the token that a slot has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is none.
    First,
    /// It stays valid until then.
    Replace { until: Timestamp },
}

/// A token as the target should have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensure {
    pub slot: String,
    pub token: Token,
    pub expires: Timestamp,
    /// The target has it, but otherwise.
    pub exists: bool,
}

/// Plans the next steps.
pub fn plan(facts: &Facts<'_>) -> Steps {
    let mut steps = Steps::default();
    for name in facts.needed {
        if let Some(renewal) = facts.renewal(name) {
            steps.renew.insert(name.clone(), renewal);
        }
    }
    let mut kept = Stored::default();
    for (name, slot) in &facts.stored.0 {
        let needed = facts.needed.contains(name);
        if needed {
            steps.ensure.extend(facts.current(name, slot));
        } else {
            steps.revoke.extend(facts.revoked(&slot.current));
        }
        let mut slot = slot.clone();
        for retired in &slot.retired {
            let kept = retired.until > facts.now || facts.is_still_named(name, retired);
            if kept && needed {
                steps.ensure.extend(facts.retired(name, retired));
            } else {
                steps.revoke.extend(facts.revoked(&retired.token));
            }
        }
        let held =
            |token: &Token| facts.is_live(token.id()) || facts.published.contains(token.id());
        slot.retired
            .retain(|retired| retired.until > facts.now || held(&retired.token));
        let gone = !needed && slot.retired.is_empty() && !held(&slot.current);
        if !gone {
            kept.0.insert(name.clone(), slot);
        }
    }
    // What a shared slot no longer needs is dropped when its next token is stored.
    let only_shared = kept.0.keys().eq(facts.stored.0.keys()) && kept.0.contains_key(SHARED);
    if kept != *facts.stored && !only_shared {
        steps.forget = Some(kept);
    }
    steps
}

/// Puts a new token into a slot, as [`Steps::renew`] says.
pub fn renew(stored: &mut Stored, name: &str, renewal: Renewal, token: Token, now: Timestamp) {
    let Some(slot) = stored.0.get_mut(name) else {
        stored.0.insert(name.to_owned(), Slot::new(token));
        return;
    };
    slot.retired.retain(|retired| retired.until > now);
    let before = std::mem::replace(&mut slot.current, token);
    if let Renewal::Replace { until } = renewal {
        slot.retired.push(Retired {
            token: before,
            until,
        });
    }
    slot.approval = None;
}

/// When the next token is due for renewal; `None` while none is live.
pub fn next_due(facts: &Facts<'_>) -> Option<Timestamp> {
    let slots = facts
        .stored
        .0
        .iter()
        .filter(|(name, _)| facts.needed.contains(*name));
    slots
        .filter_map(|(_, slot)| facts.live.get(slot.current.id())?.expires)
        .filter_map(|expires| expires.checked_sub(half(facts.ttl)).ok())
        .min()
}

/// When the current token of a slot expires in the target.
pub fn expiry(facts: &Facts<'_>, slot: &str) -> Option<Timestamp> {
    let slot = facts.stored.0.get(slot)?;
    facts.live.get(slot.current.id())?.expires
}

/// Whether user data may name the current token of a slot: the target has it as it should be.
pub fn is_usable(facts: &Facts<'_>, slot: &Slot) -> bool {
    facts
        .live
        .get(slot.current.id())
        .is_some_and(|live| live.intact && live.expires.is_some_and(|expires| expires > facts.now))
}

impl Facts<'_> {
    fn is_live(&self, id: &str) -> bool {
        self.live.contains_key(id)
    }

    /// Whether a slot needs a new token.
    fn renewal(&self, name: &str) -> Option<Renewal> {
        let Some(slot) = self.stored.0.get(name) else {
            return Some(Renewal::First);
        };
        if name == SHARED {
            // It is replaced by the clock once machines may know it, never because it is missing:
            // it is made again then, for those that wait with it.
            let published = self.published.contains(slot.current.id());
            let live = self.live.get(slot.current.id());
            let past_half = live.is_some_and(|live| self.is_past_half(*live));
            return (published && past_half).then(|| Renewal::Replace {
                until: self.lasting(),
            });
        }
        // Granted long ago, and the machine did not become a Node: it was imaged anew, or never got
        // the answer. One token grants one request, so it needs another.
        let approval = slot.approval.as_ref()?;
        let waits = self.undecided.contains(&approval.uid);
        let spent = !waits
            && approval
                .at
                .checked_add(signed(self.ttl))
                .is_ok_and(|end| end < self.now);
        spent.then_some(Renewal::Replace { until: self.now })
    }

    /// What the current token of a needed slot lacks in the target.
    fn current(&self, name: &str, slot: &Slot) -> Option<Ensure> {
        let token = &slot.current;
        let live = self.live.get(token.id());
        let lasts_too_long = |expires: Timestamp| expires > self.lasting();
        let in_place = live.is_some_and(|live| {
            live.intact && !self.is_past_half(*live) && !live.expires.is_some_and(lasts_too_long)
        });
        // One that is past half its life and known to machines is replaced, not extended.
        let replaced = name == SHARED && self.renewal(name).is_some();
        (!in_place && !replaced).then(|| self.ensured(name, token, self.lasting()))
    }

    /// User data of an open pool could not be written since its token was replaced.
    fn is_still_named(&self, name: &str, retired: &Retired) -> bool {
        let ends_soon = retired.until.duration_since(self.now) <= half(self.ttl);
        name == SHARED && ends_soon && self.published.contains(retired.token.id())
    }

    /// What a replaced token lacks that others may still hold. While user data names it, it lives on.
    fn retired(&self, name: &str, retired: &Retired) -> Option<Ensure> {
        let live = self.live.get(retired.token.id());
        if self.is_still_named(name, retired) {
            let in_place = live.is_some_and(|live| live.intact && !self.is_past_half(*live));
            return (!in_place).then(|| self.ensured(name, &retired.token, self.lasting()));
        }
        let in_place = live.is_some_and(|live| live.intact && live.expires == Some(retired.until));
        (!in_place).then(|| self.ensured(name, &retired.token, retired.until))
    }

    fn ensured(&self, slot: &str, token: &Token, expires: Timestamp) -> Ensure {
        Ensure {
            slot: slot.to_owned(),
            token: token.clone(),
            expires,
            exists: self.is_live(token.id()),
        }
    }

    /// A token that is not needed any more goes, unless it expires by itself right now.
    fn revoked(&self, token: &Token) -> Option<String> {
        let live = self.live.get(token.id())?;
        let over = live.expires.is_some_and(|expires| expires <= self.now);
        (!over).then(|| token.id().to_owned())
    }

    /// The expiration of a token that is made or extended now.
    fn lasting(&self) -> Timestamp {
        let end = self.now.checked_add(signed(self.ttl));
        whole_seconds(end.unwrap_or(Timestamp::MAX))
    }

    fn is_past_half(&self, live: Live) -> bool {
        let Some(expires) = live.expires else {
            return true;
        };
        let left = expires.duration_since(self.now);
        left <= half(self.ttl)
    }
}

fn half(ttl: Duration) -> SignedDuration {
    signed(ttl / 2)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
