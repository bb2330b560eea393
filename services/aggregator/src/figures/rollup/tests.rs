use metering::Calendar;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn share(calendar: &Calendar, workflow: i32, stopped_at: Timestamp, ms: i64) -> Share {
    Share {
        tenant: 1,
        workflow,
        period_start: calendar.period_of(stopped_at).start,
        stopped_at,
        duration: SignedDuration::from_millis(ms),
        totals: Totals { counted: 1, success: 1, duration_ms: ms, ..Totals::ZERO },
    }
}

#[test]
fn a_run_is_in_its_hour_and_in_the_day_of_its_tenant() {
    let calendar = Calendar::new("Asia/Kathmandu", 1).unwrap();
    let timeline = Timeline::new(calendar.clone());
    let mut changes = Changes::default();
    changes.add(share(&calendar, 3, at("2026-11-24T18:20:00Z"), 40), &timeline);
    let mut figures = Figures::default();
    figures.apply(&changes);
    let counted = |totals: &Totals| totals.counted;
    let hours: Vec<_> = figures.hours.iter().map(|(key, hour)| (*key, counted(&hour.totals))).collect();
    assert_eq!(hours, [((1, at("2026-11-24T18:15:00Z")), 1)]);
    let of_utc: Vec<_> = figures.period_hours.keys().map(|key| key.hour_start).collect();
    assert_eq!(of_utc, [at("2026-11-24T18:00:00Z")]);
    // 18:20 UTC is 00:05 of the next day in Kathmandu, where midnight falls inside a UTC hour.
    let days: Vec<_> = figures.days.iter().map(|(key, day)| (*key, counted(&day.totals))).collect();
    assert_eq!(days, [((1, at("2026-11-24T18:15:00Z")), 1)]);
}

#[test]
fn a_voided_run_counts_only_as_voided() {
    let calendar = Calendar::utc();
    let timeline = Timeline::new(calendar.clone());
    let run = share(&calendar, 3, at("2026-11-24T18:20:00Z"), 40);
    let mut changes = Changes::default();
    changes.add(run, &timeline);
    changes.add(Share { totals: run.totals.negated(), ..run }, &timeline);
    changes.add(Share { totals: Totals::VOIDED, ..run }, &timeline);
    let mut figures = Figures::default();
    figures.apply(&changes);
    assert_eq!(figures.periods.into_values().collect::<Vec<_>>(), [Totals::VOIDED]);
    assert!(figures.workflows.values().all(|cell| cell.durations.is_empty()));
}

#[test]
fn damaged_bytes_are_refused() {
    assert!(Changes::from_bytes(&[0xff]).is_err());
    let out_of_range = StoredCell { period_start: i64::MAX, ..StoredCell::default() };
    let bytes = StoredChanges { cells: vec![out_of_range] }.encode_to_vec();
    assert!(matches!(Changes::from_bytes(&bytes), Err(DamagedChange::Instant(_))));
}

proptest! {
    /// Also after a round trip through the log's bytes.
    #[test]
    fn figures_are_the_same_however_executions_are_split_into_transactions(
        runs in prop::collection::vec((1_i32..4, 0_i64..5_000_000, 0_i64..90_000), 1..40),
        cuts in prop::collection::vec(any::<bool>(), 40),
    ) {
        let calendar = Calendar::new("Europe/Madrid", 15).unwrap();
        let timeline = Timeline::new(calendar.clone());
        let start = at("2026-10-01T00:00:00Z");
        let (mut whole, mut parts) = (Changes::default(), vec![Changes::default()]);
        for ((workflow, second, ms), cut) in runs.iter().zip(&cuts) {
            let share = share(&calendar, *workflow, start + SignedDuration::from_secs(*second), *ms);
            whole.add(share, &timeline);
            if *cut {
                parts.push(Changes::default());
            }
            parts.last_mut().unwrap().add(share, &timeline);
        }
        let (mut at_once, mut one_by_one) = (Figures::default(), Figures::default());
        at_once.apply(&whole);
        for part in parts.iter().rev() {
            one_by_one.apply(&Changes::from_bytes(&part.to_bytes()).unwrap());
        }
        prop_assert_eq!(at_once, one_by_one);
    }
}
