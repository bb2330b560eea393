use jiff::Timestamp;
use metering::{Calendar, Status};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// Any observation: workflow 1 belongs to tenant 1, workflow 2 to tenant 2, workflow 3 to nobody.
fn word(polled: bool, workflow: i32, mode: Mode, status: Status, start: i64, stop: i64) -> Word {
    let stopped_at = at(stop);
    let placed =
        (workflow < 3).then(|| Placed { tenant: workflow, period: Calendar::utc().period_of(stopped_at) });
    let ended = Ended { status, started_at: Some(at(start)), stopped_at };
    let counted = placed.is_some() && mode == Mode::Webhook && status != Status::Canceled;
    Word { polled, workflow, mode, ended, placed, counted }
}

fn first(word: &Word) -> Decided {
    Decided {
        source: 1,
        epoch: 1,
        number: 7,
        month: jiff::civil::date(2026, 9, 1),
        workflow: word.workflow,
        mode: word.mode,
        ended: word.ended,
        placed: word.placed,
        counted: word.counted,
        late: false,
        voided: false,
        confirmed: word.polled,
    }
}

/// What is stored after all these observations, in this order.
fn observed<'a>(words: impl IntoIterator<Item = &'a Word>) -> Decided {
    let mut words = words.into_iter();
    let mut kept = first(words.next().expect("a word"));
    for word in words {
        kept = word.applied_to(&kept).unwrap_or(kept);
    }
    kept
}

fn any_word(polled: bool) -> impl Strategy<Value = Word> {
    let modes = select(vec![Mode::Webhook, Mode::Manual]);
    // Few seconds in two months, so that observations agree in some fields.
    let stops = select(vec![10, 11, 5_000_000]);
    (1..=3_i32, modes, select(Status::ALL.to_vec()), 0..3_i64, stops).prop_map(
        move |(workflow, mode, status, start, stop)| word(polled, workflow, mode, status, start, stop),
    )
}

/// What polls show of one execution: one outcome, or a crash and its resolution.
fn polls() -> impl Strategy<Value = Vec<Word>> {
    (any_word(true), any::<bool>()).prop_map(|(shown, crashed_before)| {
        // A crash counts, even if its resolution would not have counted.
        let counted = shown.placed.is_some() && shown.mode == Mode::Webhook;
        let crash =
            Word { ended: Ended { status: Status::Crashed, ..shown.ended }, counted, ..shown.clone() };
        if crashed_before { vec![crash, shown] } else { vec![shown] }
    })
}

proptest! {
    #[test]
    fn in_any_order_the_outcome_is_that_of_the_poll_alone(
        polls in polls(),
        pushes in vec(any_word(false), 0..4),
        repeats in vec(any::<prop::sample::Index>(), 0..4),
        seed in any::<u64>(),
    ) {
        let alone: Vec<Word> = polls.clone();
        let mut all: Vec<Word> = polls.into_iter().chain(pushes).collect();
        let copies: Vec<Word> = repeats.iter().map(|index| index.get(&all).clone()).collect();
        all.extend(copies);
        shuffle(&mut all, seed);
        // The polls alone, in the same order.
        let polled: Vec<&Word> = all.iter().filter(|word| word.polled).collect();
        let expected = observed(polled);
        prop_assert_eq!(&observed(&all), &expected);
        let (status, in_order) = (expected.ended.status, observed(&alone).ended.status);
        prop_assert_eq!(status, in_order);
    }

    #[test]
    fn an_execution_that_is_only_pushed_stays_a_claim(pushes in vec(any_word(false), 1..5)) {
        let kept = observed(&pushes);
        prop_assert!(!kept.confirmed);
        // The first claim wins; only a crash is replaced.
        let expected = pushes.iter().map(|word| word.ended.status).find(|status| *status != Status::Crashed);
        prop_assert_eq!(kept.ended.status, if pushes[0].ended.status == Status::Crashed {
            expected.unwrap_or(Status::Crashed)
        } else {
            pushes[0].ended.status
        });
    }
}

fn shuffle(words: &mut [Word], mut seed: u64) {
    for place in (1..words.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(seed >> 33).unwrap() % (place + 1);
        words.swap(place, other);
    }
}

#[test]
fn after_the_poll_a_push_changes_nothing() {
    let polled = word(true, 1, Mode::Webhook, Status::Crashed, 0, 10);
    let push = word(false, 2, Mode::Manual, Status::Success, 0, 10);
    assert_eq!(push.applied_to(&first(&polled)), None);
    // A later poll that resolves the crash does, and the period stays.
    let resolved = word(true, 1, Mode::Webhook, Status::Error, 0, 5_000_000);
    let kept = resolved.applied_to(&first(&polled)).unwrap();
    assert_eq!((kept.ended, kept.placed), (resolved.ended, polled.placed));
}

#[test]
fn a_voided_execution_stays_in_its_period() {
    let pushed = Decided { voided: true, ..first(&word(false, 1, Mode::Webhook, Status::Success, 0, 10)) };
    let kept = word(true, 2, Mode::Webhook, Status::Error, 0, 5_000_000).applied_to(&pushed).unwrap();
    assert_eq!((kept.placed, kept.voided, kept.confirmed), (pushed.placed, true, true));
    assert_eq!(kept.totals(), pushed.totals());
}

#[test]
fn only_a_difference_that_no_honest_push_has_is_a_contradiction() {
    let pushed = |status, stop| first(&word(false, 1, Mode::Webhook, status, 5, stop));
    let between =
        |before: &Decided, polled: &Word| Correction::between(before, &polled.applied_to(before).unwrap());
    let success = pushed(Status::Success, 10);
    for (polled, expected) in [
        (word(true, 1, Mode::Webhook, Status::Success, 5, 10), None),
        // n8n 1.x moves the start of a run that waited, and clocks differ a little.
        (word(true, 1, Mode::Webhook, Status::Success, 9, 10), Some(Correction::Times)),
        (word(true, 1, Mode::Webhook, Status::Success, 5, 20), Some(Correction::Times)),
        (word(true, 1, Mode::Webhook, Status::Success, 5, 21), Some(Correction::Stop)),
        (word(true, 1, Mode::Webhook, Status::Error, 5, 10), Some(Correction::Status)),
        (word(true, 1, Mode::Manual, Status::Error, 5, 10), Some(Correction::Mode)),
        (word(true, 2, Mode::Manual, Status::Error, 5, 10), Some(Correction::Workflow)),
    ] {
        assert_eq!(between(&success, &polled), expected, "{polled:?}");
    }
    assert!(!Correction::Times.is_contradiction() && Correction::Stop.is_contradiction());
    let resolved = word(true, 1, Mode::Webhook, Status::Error, 5, 400);
    assert_eq!(between(&pushed(Status::Crashed, 10), &resolved), None, "a resolved crash is no correction");
    let polled = first(&word(true, 1, Mode::Webhook, Status::Crashed, 5, 10));
    assert_eq!(between(&polled, &resolved), None, "there was no push to correct");
}
