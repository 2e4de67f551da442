//! The grant protocol, explored to its end within bounds that two processors reach in a minute or two. What it prints is
//! part of the result: `cargo xtask simulate --protocol TERMS UNHEARD REFUSALS ABORTS AWAY` explores others.

use livepatch_tests_sim::protocol::{Faults, explore};

#[test]
fn it_holds_when_a_leader_is_lost_and_an_answer() {
    hold(Faults {
        terms: 1,
        unheard: 1,
        refusals: 0,
        aborts: 0,
        away: 0,
    });
}

#[test]
fn it_holds_when_a_leader_is_lost_and_the_rollout_is_stopped() {
    hold(Faults {
        terms: 1,
        unheard: 0,
        refusals: 1,
        aborts: 1,
        away: 0,
    });
}

#[test]
fn it_holds_when_an_answer_is_lost_and_the_rollout_is_stopped() {
    hold(Faults {
        terms: 0,
        unheard: 1,
        refusals: 1,
        aborts: 1,
        away: 0,
    });
}

fn hold(faults: Faults) {
    let explored = explore(faults);
    println!("{faults:?}: {explored}");
    assert!(explored.broken.is_empty());
}
