//! etcd's rules of membership, as its server decides them (3.7: `mayAddMember`, `mayPromoteMember`,
//! `mayRemoveMember`, `ValidateConfigurationChange`). Played against real etcd by `etcd_model`.

/// Why etcd refuses a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// "unhealthy cluster": too few voters are connected for 5 s.
    Unhealthy,
    /// "not enough started members".
    NotEnoughStarted,
    /// "too many learner members".
    TooManyLearners,
    /// "Peer URLs already exists" or "member ID already exist".
    Exists,
    /// "member not found".
    NotFound,
    /// "can only promote a learner member".
    NotLearner,
    /// "can only promote a learner member which is in sync with leader".
    NotInSync,
    /// Nothing is agreed on any more: the call runs into its deadline.
    NoQuorum,
    /// "bad leader transferee".
    BadTransferee,
    /// "request timed out, leader transfer took too long".
    TransferTimedOut,
}

/// How the member that is asked sees its connection to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Down,
    /// For less than 5 s.
    Fresh,
    /// For 5 s or more.
    Steady,
}

/// A member as the one that is asked sees it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub id: u64,
    pub url: u8,
    pub learner: bool,
    /// It has published its name once.
    pub started: bool,
    /// It runs and is connected, in truth.
    pub alive: bool,
    /// Its connection, by the asked member's view: up to 5 s behind the truth.
    pub link: Link,
    /// Its log matches 90 % of the leader's.
    pub matches: bool,
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn voters(rows: &[Row]) -> impl Iterator<Item = &Row> + Clone {
    rows.iter().filter(|row| !row.learner)
}

/// A majority of the voters is there and agrees.
pub fn decides(rows: &[Row]) -> bool {
    voters(rows).filter(|row| row.alive).count() >= quorum(voters(rows).count())
}

/// `numConnectedSince`: the asked member itself always counts.
fn connected(rows: &[Row], asked: u64) -> usize {
    voters(rows)
        .filter(|row| row.id == asked || row.link == Link::Steady)
        .count()
}

fn commit(rows: &[Row]) -> Result<(), Refusal> {
    if decides(rows) {
        Ok(())
    } else {
        Err(Refusal::NoQuorum)
    }
}

/// Adding a learner at this URL, asked of member `asked`.
pub fn add_learner(rows: &[Row], asked: u64, url: u8) -> Result<(), Refusal> {
    let count = voters(rows).count();
    if count > 1 && connected(rows, asked) < quorum(count + 1) {
        return Err(Refusal::Unhealthy);
    }
    commit(rows)?;
    if rows.iter().any(|row| row.url == url) {
        return Err(Refusal::Exists);
    }
    if rows.iter().any(|row| row.learner) {
        return Err(Refusal::TooManyLearners);
    }
    Ok(())
}

/// Promoting a member. Answered by the leader, whoever is asked.
pub fn promote(rows: &[Row], id: u64) -> Result<(), Refusal> {
    commit(rows)?;
    let row = rows
        .iter()
        .find(|row| row.id == id)
        .ok_or(Refusal::NotFound)?;
    if !row.matches {
        return Err(Refusal::NotInSync);
    }
    // The promoted one is counted a second time when it votes already, as etcd does.
    let started = 1 + voters(rows).filter(|row| row.started).count();
    if started < quorum(voters(rows).count() + 1) {
        return Err(Refusal::NotEnoughStarted);
    }
    if row.learner {
        Ok(())
    } else {
        Err(Refusal::NotLearner)
    }
}

/// Removing a member, asked of member `asked`.
pub fn remove(rows: &[Row], asked: u64, id: u64) -> Result<(), Refusal> {
    let target = rows.iter().find(|row| row.id == id);
    if target.is_none_or(|row| !row.learner) {
        let count = voters(rows).count();
        let left = voters(rows).filter(|row| row.id != id);
        let started = left.clone().filter(|row| row.started).count();
        if started < quorum(left.count()) {
            return Err(Refusal::NotEnoughStarted);
        }
        let down = id != asked && target.is_none_or(|row| row.link == Link::Down);
        // In Go, (len-1)/2 of at least one voter.
        if !down && connected(rows, asked).saturating_sub(1) < 1 + (count - 1) / 2 {
            return Err(Refusal::Unhealthy);
        }
    }
    commit(rows)?;
    if target.is_some() {
        Ok(())
    } else {
        Err(Refusal::NotFound)
    }
}

/// Handing leadership to a member, asked of the leader.
pub fn move_leader(rows: &[Row], to: u64) -> Result<(), Refusal> {
    commit(rows)?;
    match rows.iter().find(|row| row.id == to) {
        Some(row) if row.learner => Err(Refusal::BadTransferee),
        None => Err(Refusal::BadTransferee),
        Some(row) if !row.alive => Err(Refusal::TransferTimedOut),
        Some(_) => Ok(()),
    }
}
