//! Half a minute in which everything breaks, and the figures stay correct.

use std::time::Duration;

use chaos::Plan;
use stack::services;

#[test]
fn the_figures_stay_correct_whatever_breaks() {
    let plan = Plan::new("whole/chaos", 5, Duration::from_secs(20));
    let verdict = chaos::run(&plan, &services::binaries_beside_test().unwrap()).unwrap();
    println!("{verdict}");
    assert_eq!(verdict.differences, Vec::<String>::new());
    assert!(verdict.executions > 0 && verdict.kills > 0, "nothing was tested");
}
