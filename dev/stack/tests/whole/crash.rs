//! SIGKILL to any one service in the middle of its work, and a restart: the same figures.

use stack::Program;

use crate::harness::{Harness, Runs, SOURCE, TENANT};

const LIMIT: u64 = 400;
const ROUNDS: u64 = 10;

/// What one round runs: 60 that count, 5 that do not.
const ROUND: [Runs; 4] = [
    Runs::good(40),
    Runs { workflow: "orderSync", mode: "trigger", status: "error", count: 10 },
    Runs { workflow: "stockAlert", mode: "webhook", status: "crashed", count: 10 },
    Runs { workflow: "stockAlert", mode: "manual", status: "success", count: 5 },
];
const COUNTED: u64 = ROUNDS * 60;
const UNCOUNTED: u64 = ROUNDS * 5;

fn figures_survive_a_crash_of(program: Program) {
    let mut bench = Harness::with_tenant(&format!("crash-{}", program.name()), LIMIT);
    for round in 0..ROUNDS {
        for runs in ROUND {
            bench.run(SOURCE, runs);
        }
        match round {
            2 => {
                // Work is in progress, and more arrives while the service is down.
                bench.await_counted(TENANT, 1);
                bench.stack.kill(program).unwrap();
            }
            5 => bench.stack.restart(program).unwrap(),
            8 => {
                bench.stack.kill(program).unwrap();
                bench.stack.restart(program).unwrap();
            }
            _ => {}
        }
    }
    bench.await_counted(TENANT, COUNTED);
    bench.await_quiet();

    let usage = bench.usage(TENANT);
    let figures =
        ["counted", "uncounted", "success", "error", "crashed"].map(|figure| usage[figure].as_u64());
    let expected = [COUNTED, UNCOUNTED, ROUNDS * 40, ROUNDS * 10, ROUNDS * 10];
    assert_eq!(figures, expected.map(Some));

    // The clock moves, so that work that a killed sender had claimed becomes due again.
    assert_eq!(bench.await_stripe_total(COUNTED), COUNTED);
    bench.await_mails(1);
    bench.await_quiet();
    let mails = bench.mail_subjects();
    let of = |share: &str| mails.iter().filter(|subject| subject.contains(share)).count();
    // If one change crossed both, or the first was not sent in time, the higher one covers both.
    assert_eq!(of("100 %"), 1, "one mail at 100 %: {mails:?}");
    assert!(of("80 %") <= 1 && mails.len() <= 2, "one mail at 80 % at most: {mails:?}");
    assert_eq!(bench.stripe_total(), COUNTED);
    assert_eq!(bench.dead_letters(), Vec::<serde_json::Value>::new());
    bench.finish();
}

#[test]
fn of_the_collector() {
    figures_survive_a_crash_of(Program::Collector);
}

#[test]
fn of_the_aggregator() {
    figures_survive_a_crash_of(Program::Aggregator);
}

#[test]
fn of_billing() {
    figures_survive_a_crash_of(Program::Billing);
}

#[test]
fn of_alerts() {
    figures_survive_a_crash_of(Program::Alerts);
}

#[test]
fn of_the_gateway() {
    figures_survive_a_crash_of(Program::Gateway);
}
