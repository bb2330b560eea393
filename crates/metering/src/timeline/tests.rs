use proptest::{collection::vec, prelude::*};

use super::*;

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Madrid",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Kathmandu",
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar(zone: &str, day: u32) -> Calendar {
    Calendar::new(zone, day).unwrap()
}

fn period(start: &str, end: &str) -> Period {
    Period { start: at(start), end: at(end) }
}

#[test]
fn a_changed_calendar_holds_from_the_end_of_the_current_period() {
    let mut timeline = Timeline::new(Calendar::utc());
    assert!(timeline.set(&calendar("Europe/Madrid", 15), at("2026-11-24T12:00:00Z"), None));
    let november = period("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!(timeline.period_of(at("2026-11-24T12:00:00Z")), november);
    assert_eq!(timeline.changes_after(november.start), Some(november.end));
    // The first one is shorter, and the next is a whole month of the new calendar.
    let first = period("2026-12-01T00:00:00Z", "2026-12-14T23:00:00Z");
    assert_eq!(timeline.period_of(november.end), first);
    assert_eq!(timeline.period_of(first.end), period("2026-12-14T23:00:00Z", "2027-01-14T23:00:00Z"));
    // The day of the change is cut there: in Madrid it began an hour before.
    assert_eq!(timeline.day_of(november.end), period("2026-12-01T00:00:00Z", "2026-12-01T23:00:00Z"));
    assert_eq!(timeline.day_of(at("2026-11-30T23:30:00Z")).end, november.end);
}

#[test]
fn only_the_last_change_before_the_period_ends_holds() {
    let now = at("2026-11-24T12:00:00Z");
    let mut timeline = Timeline::new(Calendar::utc());
    timeline.set(&calendar("Europe/Madrid", 15), now, None);
    timeline.set(&calendar("America/Havana", 3), now, None);
    assert_eq!(timeline.later().len(), 1);
    assert_eq!(timeline.latest(), &calendar("America/Havana", 3));
    assert!(!timeline.set(&calendar("America/Havana", 3), now, None));
    assert!(timeline.set(&Calendar::utc(), now, None));
    assert_eq!(timeline, Timeline::new(Calendar::utc()));
}

#[test]
fn a_period_that_was_opened_ahead_keeps_its_bounds() {
    let mut timeline = Timeline::new(Calendar::utc());
    let december = timeline.period_of(at("2026-12-01T00:00:00Z"));
    timeline.set(&calendar("Europe/Madrid", 15), at("2026-11-30T23:59:00Z"), Some(december.end));
    assert_eq!(timeline.period_of(december.start), december);
    assert_eq!(timeline.period_of(december.end).end, at("2027-01-14T23:00:00Z"));
}

#[test]
fn a_period_ends_by_hand_and_the_next_runs_to_the_calendars_boundary() {
    let (now, end) = (at("2026-11-24T12:00:00Z"), at("2026-11-24T12:01:00Z"));
    let mut timeline = Timeline::new(Calendar::utc());
    timeline.end_period(end, None);
    assert_eq!(timeline.period_of(now), period("2026-11-01T00:00:00Z", "2026-11-24T12:01:00Z"));
    assert_eq!(timeline.period_of(end), period("2026-11-24T12:01:00Z", "2026-12-01T00:00:00Z"));
    // A calendar that was set applies from there on.
    let mut timeline = Timeline::new(Calendar::utc());
    timeline.set(&calendar("Europe/Madrid", 15), now, None);
    timeline.end_period(end, Some(at("2026-12-01T00:00:00Z")));
    assert_eq!(timeline.period_of(end), period("2026-11-24T12:01:00Z", "2026-12-14T23:00:00Z"));
    // But never in a period that was opened ahead.
    let mut timeline = Timeline::new(Calendar::utc());
    let december = timeline.period_of(at("2026-12-01T00:00:00Z"));
    timeline.set(&calendar("Europe/Madrid", 15), now, Some(december.end));
    timeline.end_period(end, Some(december.end));
    assert_eq!(timeline.period_of(end), period("2026-11-24T12:01:00Z", "2026-12-01T00:00:00Z"));
    assert_eq!(timeline.period_of(december.start), december);
    assert_eq!(timeline.period_of(december.end).end, at("2027-01-14T23:00:00Z"));
}

#[test]
fn rows_stored_before_timelines_keep_their_bounds() {
    let madrid = calendar("Europe/Madrid", 1);
    let row = |text: &str| madrid.period_of(at(text));
    let rows = [row("2026-11-24T12:00:00Z"), row("2026-10-24T12:00:00Z")];
    assert_eq!(Timeline::of_rows(madrid.clone(), &rows), Timeline::new(madrid.clone()));
    // October and November in UTC; in November the zone was changed, and November came a second time.
    let october = Calendar::utc().period_of(at("2026-10-24T12:00:00Z"));
    let november = Calendar::utc().period_of(at("2026-11-24T12:00:00Z"));
    let again = row("2026-11-24T12:00:00Z");
    let timeline = Timeline::of_rows(madrid.clone(), &[again, november, october]);
    assert_eq!(timeline.period_of(at("2026-11-24T12:00:00Z")), again);
    assert_eq!(timeline.period_of(again.start), again);
    assert_eq!(timeline.period_of(at("2026-10-24T12:00:00Z")), Period { end: again.start, ..october });
    assert_eq!(timeline.period_of(again.end), madrid.period_of(again.end));
}

#[test]
fn a_period_continues_from_the_end_of_the_last_known_one() {
    let (madrid, end) = (calendar("Europe/Madrid", 15), at("2026-12-01T00:00:00Z"));
    assert_eq!(madrid.continue_from(end, end), period("2026-12-01T00:00:00Z", "2026-12-14T23:00:00Z"));
    let later = at("2026-12-20T00:00:00Z");
    assert_eq!(madrid.continue_from(end, later), madrid.period_of(later));
}

/// Something that happens to a tenant, some seconds after the step before.
#[derive(Debug, Clone)]
enum Step {
    Set(usize, u32),
    /// A run that stopped this many seconds from now: its period is opened.
    Run(i64),
    End,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        3 => (0..ZONES.len(), 1_u32..=31).prop_map(|(zone, day)| Step::Set(zone, day)),
        4 => (-40 * 86_400_i64..86_400).prop_map(Step::Run),
        1 => Just(Step::End),
    ];
    let pause = prop_oneof![3 => 0_i64..50 * 3_600, 1 => 0_i64..50 * 86_400];
    vec((pause, step), 1..60)
}

proptest! {
    #[test]
    fn whatever_calendars_are_set_every_instant_is_in_one_period_that_never_changes(
        begin in 1_300_000_000_i64..1_900_000_000,
        steps in steps(),
    ) {
        let mut now = Timestamp::from_second(begin).unwrap();
        let mut timeline = Timeline::new(Calendar::utc());
        let mut opened: Vec<Period> = vec![timeline.period_of(now)];
        for (pause, step) in steps {
            now += jiff::SignedDuration::from_secs(pause);
            let current = timeline.period_of(now);
            if !opened.contains(&current) {
                opened.push(current);
            }
            let until = opened.iter().map(|period| period.end).max();
            match step {
                Step::Set(zone, day) => {
                    timeline.set(&calendar(ZONES[zone], day), now, until);
                }
                Step::Run(beside) => {
                    let period = timeline.period_of(now + jiff::SignedDuration::from_secs(beside));
                    if !opened.contains(&period) {
                        opened.push(period);
                    }
                }
                Step::End => {
                    let end = now + jiff::SignedDuration::from_secs(60);
                    if end < current.end {
                        timeline.end_period(end, until);
                        opened.retain(|period| *period != current);
                        opened.push(Period { end, ..current });
                    }
                }
            }
            for period in &opened {
                prop_assert_eq!(timeline.period_of(period.start), *period);
                let last = period.end - jiff::SignedDuration::from_micros(1);
                prop_assert_eq!(timeline.period_of(last), *period);
            }
        }
        // From the first to the last, each begins where the one before ends.
        let mut instant = opened.iter().map(|period| period.start).min().unwrap();
        let until = opened.iter().map(|period| period.end).max().unwrap() + jiff::SignedDuration::from_hours(2_000);
        let mut met = 0;
        while instant < until {
            let period = timeline.period_of(instant);
            prop_assert_eq!(period.start, instant);
            prop_assert!(period.end > period.start);
            met += usize::from(opened.contains(&period));
            let day = timeline.day_of(instant);
            prop_assert!(day.start == instant && day.end <= period.end);
            instant = period.end;
        }
        prop_assert_eq!(met, opened.len());
    }

    #[test]
    fn rows_that_overlapped_before_are_put_in_order(
        begin in 1_300_000_000_i64..1_900_000_000,
        calendars in vec((0..ZONES.len(), 1_u32..=31, 0_i64..40 * 86_400), 1..8),
    ) {
        // As an earlier version did, which computed the current period with the calendar at that time.
        let mut now = Timestamp::from_second(begin).unwrap();
        let mut rows = Vec::new();
        let mut last = Calendar::utc();
        for (zone, day, pause) in calendars {
            now += jiff::SignedDuration::from_secs(pause);
            last = calendar(ZONES[zone], day);
            let row = last.period_of(now);
            rows.retain(|other: &Period| other.start != row.start);
            rows.insert(0, row);
        }
        let timeline = Timeline::of_rows(last, &rows);
        prop_assert_eq!(timeline.period_of(now), rows[0], "what was current stays");
        let mut instant = rows.iter().map(|row| row.start).min().unwrap();
        let begin = timeline.period_of(instant).start;
        prop_assert!(begin <= instant);
        instant = begin;
        for _ in 0..40 {
            let period = timeline.period_of(instant);
            prop_assert_eq!(period.start, instant);
            prop_assert!(period.end > period.start);
            instant = period.end;
        }
    }
}
