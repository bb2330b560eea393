//! Any order, packing, redelivery and split over replicas gives the same usage, thresholds and periods: generated
//! histories, played in several ways and compared with a model that shares no code with the service.
//!
//! The seed is fixed; `PROPTEST_RNG_SEED` plays others, `PROPTEST_CASES` more rounds.

mod model;
mod read;
mod script;
mod stage;

use std::{
    collections::BTreeSet,
    env,
    time::{Duration, Instant},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngSeed, TestRunner},
};

use model::{Outcome, outcome};
use script::{History, history};
use stage::{Stage, Way};

const SEED: u64 = 20_270_320;

/// Played side by side in one installation.
const HISTORIES: usize = 24;

/// How long to search for a smaller failing example.
const SIMPLER_WITHIN: Duration = Duration::from_secs(60);

/// Differences that are shown.
const SHOWN_MAX: usize = 12;

fn runner() -> TestRunner {
    let config = Config::default();
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        chosen => chosen,
    };
    TestRunner::new(Config { rng_seed, failure_persistence: None, ..config })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_playing_a_history_gives_the_models_outcome() {
    let mut runner = runner();
    let rounds = env::var("PROPTEST_CASES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    for _ in 0..rounds {
        let mut trees: Vec<_> =
            (0..HISTORIES).map(|_| history().new_tree(&mut runner).expect("a history")).collect();
        let all: Vec<History> = trees.iter().map(ValueTree::current).collect();
        let texts = differences(&all, &mut runner).await;
        let Some((number, ..)) = texts.first() else { continue };
        let texts: Vec<&str> =
            texts.iter().map(|(_, difference)| difference.as_str()).take(SHOWN_MAX).collect();
        eprintln!("{}\n\nLooking for a simple example of h{number}", texts.join("\n"));
        let example = simplest(&mut trees[*number], &mut runner).await;
        panic!("the outcome is not the model's; alone and simplified, h{number} is {example:#?}");
    }
}

#[test]
fn the_histories_cover_what_they_are_meant_to_test() {
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(SEED), ..Config::default() });
    let all: Vec<History> =
        (0..HISTORIES).map(|_| history().new_tree(&mut runner).expect("a history").current()).collect();
    let outcome = expected(&all);
    let count = |kind: &str| outcome.keys().filter(|key| key.starts_with(kind)).count();
    for kind in ["late ", "unmapped ", "closed ", "crossing ", "workflow day "] {
        assert!(count(kind) >= 5, "{kind}: {}", count(kind));
    }
    let calendars: usize = all
        .iter()
        .map(|history| (0..history.phases.len()).filter(|phase| history.calendar(*phase).is_some()).count())
        .sum();
    assert!(calendars >= 10, "{calendars} calendars are changed");
    let crossed = |key: &String| key.rsplit_once(' ').map(|(crossed, _limit)| crossed.to_owned());
    let different: BTreeSet<_> =
        outcome.keys().filter(|key| key.starts_with("crossing ")).map(crossed).collect();
    assert!(different.len() < count("crossing "), "no threshold was rearmed");
}

fn expected(all: &[History]) -> Outcome {
    all.iter().enumerate().flat_map(|(number, history)| outcome(history, &format!("h{number}"))).collect()
}

/// The differences from the model in any way of playing, each with the number of its history.
async fn differences(all: &[History], runner: &mut TestRunner) -> Vec<(usize, String)> {
    let expected = expected(all);
    let plays = Way::ALL.map(|way| (way, runner.new_rng())).map(async |(way, rng)| {
        let found = Stage::play(all, way, rng).await;
        let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let different = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key));
        let texts = different.map(|key| {
            let (found, expected) = (found.get(key), expected.get(key));
            (number_in(key), format!("{way:?}, {key}: {found:?}, by the model {expected:?}"))
        });
        texts.collect::<Vec<_>>()
    });
    futures_util::future::join_all(plays).await.concat()
}

/// The number of the history that a key belongs to: names begin with `h` and that number.
fn number_in(key: &str) -> usize {
    let name = key.split(' ').find_map(|word| word.strip_prefix('h')?.split_once('-'));
    name.and_then(|(number, _)| number.parse().ok()).expect("the name of a history")
}

/// The history if it also fails alone, as simple as a minute allows.
async fn simplest(tree: &mut impl ValueTree<Value = History>, runner: &mut TestRunner) -> Option<History> {
    let (mut failing, begun) = (None, Instant::now());
    while begun.elapsed() < SIMPLER_WITHIN {
        let candidate = tree.current();
        let goes_on = if differences(std::slice::from_ref(&candidate), runner).await.is_empty() {
            failing.is_some() && tree.complicate()
        } else {
            failing = Some(candidate);
            tree.simplify()
        };
        if !goes_on {
            break;
        }
    }
    failing
}
