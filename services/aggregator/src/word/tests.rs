use jiff::Timestamp;
use metering::{Calendar, Status};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// What anybody may say: workflow 1 is tenant 1's and 2 tenant 2's, 3 is nobody's.
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

/// What is kept once all of them were heard, in this order.
fn heard<'a>(words: impl IntoIterator<Item = &'a Word>) -> Decided {
    let mut words = words.into_iter();
    let mut kept = first(words.next().expect("a word"));
    for word in words {
        kept = word.applied_to(&kept).unwrap_or(kept);
    }
    kept
}

fn any_word(polled: bool) -> impl Strategy<Value = Word> {
    let modes = select(vec![Mode::Webhook, Mode::Manual]);
    // Seconds of two months, few of them, so that words agree in some things.
    let stops = select(vec![10, 11, 5_000_000]);
    (1..=3_i32, modes, select(Status::ALL.to_vec()), 0..3_i64, stops).prop_map(
        move |(workflow, mode, status, start, stop)| word(polled, workflow, mode, status, start, stop),
    )
}

/// What the list shows of one execution: one thing, or a crash and what becomes of it.
fn polls() -> impl Strategy<Value = Vec<Word>> {
    (any_word(true), any::<bool>()).prop_map(|(shown, crashed_before)| {
        // A crash counts, also where what becomes of it would not have.
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
        // A crash first, or at last: whatever the poll says of one, in whatever order, is the same to it.
        let polled: Vec<&Word> = all.iter().filter(|word| word.polled).collect();
        let expected = heard(polled);
        prop_assert_eq!(&heard(&all), &expected);
        let (status, in_order) = (expected.ended.status, heard(&alone).ended.status);
        prop_assert_eq!(status, in_order);
    }

    #[test]
    fn what_only_pushes_say_stays_a_claim(pushes in vec(any_word(false), 1..5)) {
        let kept = heard(&pushes);
        prop_assert!(!kept.confirmed);
        // Of claims the first holds; only a crash gives way.
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
    // The poll's own word of what became of the crash does, and its period stays.
    let resolved = word(true, 1, Mode::Webhook, Status::Error, 0, 5_000_000);
    let kept = resolved.applied_to(&first(&polled)).unwrap();
    assert_eq!((kept.ended, kept.placed), (resolved.ended, polled.placed));
}

#[test]
fn what_is_voided_stays_in_its_place() {
    let pushed = Decided { voided: true, ..first(&word(false, 1, Mode::Webhook, Status::Success, 0, 10)) };
    let kept = word(true, 2, Mode::Webhook, Status::Error, 0, 5_000_000).applied_to(&pushed).unwrap();
    assert_eq!((kept.placed, kept.voided, kept.confirmed), (pushed.placed, true, true));
    assert_eq!(kept.totals(), pushed.totals());
}

#[test]
fn only_what_an_honest_push_does_not_say_is_a_contradiction() {
    let pushed = |status, stop| first(&word(false, 1, Mode::Webhook, status, 5, stop));
    let between =
        |before: &Decided, polled: &Word| Correction::between(before, &polled.applied_to(before).unwrap());
    let success = pushed(Status::Success, 10);
    for (polled, expected) in [
        (word(true, 1, Mode::Webhook, Status::Success, 5, 10), None),
        // 1.x moves the start of a run that has waited, and clocks differ a little.
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
    assert_eq!(between(&pushed(Status::Crashed, 10), &resolved), None, "what became of a crash is news");
    let polled = first(&word(true, 1, Mode::Webhook, Status::Crashed, 5, 10));
    assert_eq!(between(&polled, &resolved), None, "there was no push to correct");
}
