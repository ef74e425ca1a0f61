//! The faults by number, what is expected, and which function does it.

use anyhow::Result;
use futures::future::LocalBoxFuture;

use crate::scenarios::{founding, identity, joining, loss, network, operator, replacement};
use crate::trial::{Trial, Version};

/// A scenario; returns what was seen.
pub type Play = for<'a, 'f> fn(&'a mut Trial<'f>) -> LocalBoxFuture<'a, Result<String>>;

/// One row.
pub struct Case {
    /// Number in the catalogue of faults; a letter tells variants apart.
    pub number: &'static str,
    pub fault: &'static str,
    pub expected: &'static str,
    pub version: Version,
    /// Whether a quorum is there at the end.
    pub quorum: bool,
    pub play: Play,
}

macro_rules! cases {
    ($($number:literal $version:ident $fault:literal => $expected:literal $play:path;)*) => {
        vec![$(Case {
            number: concat!($number),
            fault: $fault,
            expected: $expected,
            version: Version::$version,
            quorum: concat!($number) != "4",
            play: |trial| Box::pin($play(trial)),
        }),*]
    };
}

/// Every row; the longest first, so that none of them is what everybody waits for at the end.
pub fn all() -> Vec<Case> {
    cases! {
        6 V37 "a learner never starts" => "removed after 5 min, the next machine gets its turn" joining::a_learner_never_starts;
        33 V37 "all three machines are taken out of the spec at once" => "one at a time, each replaced first" replacement::all_three_are_replaced;
        29 V36 "four voters during a replacement, one of them dies" => "the dead one is removed" replacement::a_fourth_voter_dies;
        32 V37 "the only machine is replaced, put back 6 s after the new one's learner was added" => "the original voter survives" replacement::the_only_machine_is_replaced_and_put_back;
        40 V37 "watches of the seed come 60 s late" => "no second removal" operator::watches_are_late;
        30 V37 "two of five for good" => "remove, settle, remove, add, add" loss::two_of_five;
        5 V36 "a learner is killed when it has caught up" => "never promoted, evicted" joining::a_learner_dies_when_it_has_caught_up;
        7 V37 "a learner receives 100 KiB a second under load" => "not promoted far behind, not evicted" joining::a_learner_crawls;
        18 V37 "a voter's machine is imaged anew, unannounced" => "refuses to start; removed, new ID" identity::a_disk_is_wiped;
        "18a" V37 "the same of a founder whose first start no operator has seen" => "refuses to start; removed, new ID" identity::a_founder_that_nobody_saw_is_wiped;
        "18b" V36 "the same before any founder was seen to start" => "etcd refuses to start; announced, new ID" identity::a_founder_is_wiped_before_anybody_was_seen;
        19 V36 "the same, and the leader changes; announced later" => "never rejoins under its old ID" identity::a_disk_is_wiped_and_the_leader_changes;
        1 V37 "one of three for good, a spare is there" => "removed, then the spare added: three voters" loss::one_of_three_for_good;
        31 V37 "3 to 1; the leader dies between the two removals" => "no second removal until it is back" loss::scale_down_stops_half_way;
        39 V37 "the leading operator stands still past its lease" => "the other goes on, nothing twice" operator::two_operators;
        14 V36 "a follower stands still, another machine is taken out" => "not removed until the first is healthy" loss::a_member_stops_and_another_is_taken_out;
        21 V37 "a removed member starts again on its old data" => "ends, is not taken in" identity::a_removed_member_comes_back;
        22 V36 "a new machine has a dead one's address" => "the old ID is removed first" identity::an_address_is_used_again;
        24 V37 "the list changes while a learner waits for its boot" => "its config follows; it boots" joining::the_list_changes_before_the_first_boot;
        37 V37 "a healthy member is removed by hand" => "joins again under a new ID" identity::a_healthy_member_is_removed_by_hand;
        9 V36 "1 to 3, both machines ready together" => "one learner at a time" joining::two_machines_at_once;
        "9a" V37 "1 to 3 to 5 to 7 and back, by /scale" => "one step at a time, learners first" joining::up_to_seven_and_back;
        10 V37 "a promotion is done, its reply lost" => "taken for done" operator::a_promotions_reply_is_lost;
        11 V36 "a removal is done, its reply lost" => "taken for done, recorded" operator::a_removals_reply_is_lost;
        12 V37 "an addition is done, the operator killed" => "the next one takes it over" operator::killed_after_an_addition;
        13 V36 "a removal is done, the operator killed" => "the next one goes on" operator::killed_after_a_removal;
        35 V37 "the leader's machine is replaced" => "leader moved first" replacement::the_leader_is_replaced;
        23 V37 "a new machine has a healthy member's name" => "the namesake is left alone" identity::a_name_is_used_again;
        26 V37 "the seed cannot reach one member" => "reported, not removed" network::the_seed_sees_all_but_one;
        20 V37 "two members' disks are swapped" => "frozen, nothing changed" identity::two_disks_are_swapped;
        38 V36 "a voter is added by hand" => "reported, not removed" identity::an_alien_voter;
        3 V37 "two of three off, back later" => "nothing changed, heals" loss::two_of_three_come_back;
        4 V36 "two of three for good" => "quorum lost is said, nothing changed" loss::two_of_three_for_good;
        15 V36 "the leader stands still" => "new leader, no removal" loss::the_leader_stops;
        25 V37 "the leader is cut off from the others" => "new leader, its view ignored" network::the_leader_alone;
        27 V36 "the seed cannot reach anybody" => "report only" network::the_seed_sees_nobody;
        28 V37 "one member does not receive from the leader" => "no removal" network::one_way;
        41 V36 "one member answers after 30 s" => "the others are still judged healthy" network::one_member_never_answers;
        43 V37 "one of three founders is late" => "starts under its founding ID" founding::a_late_founder;
        "43a" V36 "one of three founders never comes, a spare is there" => "removed, the spare takes its place" founding::a_founder_never_comes;
        44 V36 "the ledger is deleted" => "restored or halted, never a new cluster" founding::the_ledger_is_deleted;
        63 V37 "all machines off and on together" => "nothing changed, heals" loss::all_at_once;
        2 V36 "one of three off for less than the timeout" => "nothing changed" loss::one_of_three_comes_back;
    }
}
