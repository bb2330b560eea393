//! The limit check on several gateways: leases, kills, and the units left afterwards.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use proto::v1;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::sync::Mutex;

use crate::harness::{Harness, Killable, OPERATOR, answer, at, usage};

const LIMIT: u64 = 1_000;

/// Asks a gateway; `None` if it is gone.
async fn ask(world: &Harness, base: &str, id: usize) -> Option<Value> {
    let body = json!({"tenant": "north", "id": format!("run-{id}")});
    let request = world.request_to(base, Method::POST, "/v1/admissions").bearer_auth(OPERATOR).json(&body);
    let response = request.timeout(Duration::from_secs(20)).send().await.ok()?;
    response.json::<Value>().await.ok()
}

async fn allowed_of(world: &Harness, bases: &[String], first: usize, count: usize) -> usize {
    let verdicts = stream::iter(first..first + count)
        .map(|id| {
            let base = bases[id % bases.len()].clone();
            async move { ask(world, &base, id).await }
        })
        .buffer_unordered(64)
        .filter(|verdict| {
            let is_allowed = verdict.as_ref().is_some_and(|verdict| verdict["allowed"] == true);
            async move { is_allowed }
        });
    verdicts.count().await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_never_exceed_the_limit_while_they_are_killed() {
    let world = Harness::start().await;
    world.with_tenants(LIMIT).await;
    world.counted(usage("north", 0, 1)).await;
    let gateways = Mutex::new(Vec::new());
    for _ in 0..3 {
        gateways.lock().await.push(Killable::start(&world).await);
    }
    let asked = AtomicUsize::new(0);
    let requests = stream::iter(0..10_000_usize)
        .map(|id| {
            let (world, gateways, asked) = (&world, &gateways, &asked);
            async move {
                let base = { gateways.lock().await[id % 3].base.clone() };
                let verdict = ask(world, &base, id).await;
                asked.fetch_add(1, Ordering::Relaxed);
                verdict.is_some_and(|verdict| verdict["allowed"] == true)
            }
        })
        .buffer_unordered(128)
        .fold(0_u64, |sum, allowed| async move { sum + u64::from(allowed) });
    let kills = async {
        for (round, after) in [300, 900, 2_000, 4_000, 7_000].into_iter().enumerate() {
            while asked.load(Ordering::Relaxed) < after {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let fresh = Killable::start(&world).await;
            let killed = std::mem::replace(&mut gateways.lock().await[round % 3], fresh);
            killed.kill();
        }
    };
    let (allowed, ()) = tokio::join!(requests, kills);
    assert!(allowed <= LIMIT, "{allowed} runs of {LIMIT} were allowed");
    assert!(allowed > 0, "somebody was allowed");

    // Every allowed run has ended and is counted; the watermark has passed the leases of the killed gateways.
    world.bench.clock.advance(SignedDuration::from_mins(10));
    let swept = v1::UsageCounted {
        as_of: at("2026-11-24T12:10:00Z"),
        complete_until: at("2026-11-24T12:09:59Z"),
        counted_complete: allowed,
        ..usage("north", allowed, 2)
    };
    world.counted(swept).await;
    let bases: Vec<String> = gateways.lock().await.iter().map(|gateway| gateway.base.clone()).collect();
    eventually("all gateways have the figures", || async {
        for base in &bases {
            let request = world.request_to(base, Method::GET, "/v1/admissions/north").bearer_auth(OPERATOR);
            if answer(request).await.1["as_of"] != "2026-11-24T12:10:00Z" {
                return None;
            }
        }
        Some(())
    })
    .await;
    // Units that a living gateway holds are returned within a moment: refused runs ask again.
    let mut rest = 0;
    for round in 0..20 {
        rest += allowed_of(&world, &bases, 20_000 + round * 2_000, 1_200).await as u64;
        if allowed + rest >= LIMIT {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(allowed + rest, LIMIT, "all of the limit is usable once the leases are returned");
    for gateway in gateways.into_inner() {
        gateway.kill();
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_gives_a_repeated_id_the_same_answer() {
    let world = Harness::start().await;
    world.with_tenants(1).await;
    world.counted(usage("north", 0, 1)).await;
    let second = world.replica().await;
    let first = ask(&world, world.base(), 1).await.unwrap();
    assert_eq!((&first["allowed"], &first["remaining"]), (&json!(true), &json!(0)));
    let refused = ask(&world, world.base(), 2).await.unwrap();
    assert_eq!(refused["reason"], "limit_reached");
    world.put("/v1/tenants/north", json!({"name": "North", "plan": "pro", "limit_override": 3})).await;
    for (id, before) in [(1, first), (2, refused)] {
        assert_eq!(ask(&world, &second, id).await.unwrap(), before);
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_a_killed_gateway_spent_in_memory_are_not_granted_again() {
    let world = Harness::start().await;
    world.with_tenants(LIMIT).await;
    world.counted(usage("north", 0, 1)).await;
    let gateway = Killable::start(&world).await;
    let mut allowed = 0;
    // With the ledger locked, only leased units can answer, and no verdict on them can be stored.
    let mut ids = 0..;
    let lock = loop {
        allowed += allowed_of(&world, std::slice::from_ref(&gateway.base), ids.next().unwrap(), 1).await;
        let mut lock = world.bench.pool().begin().await.unwrap();
        sqlx::query("SELECT 1 FROM ledgers WHERE tenant = 'north' FOR UPDATE")
            .execute(&mut *lock)
            .await
            .unwrap();
        let asked = ask(&world, &gateway.base, ids.next().unwrap());
        let answered = tokio::time::timeout(Duration::from_secs(1), asked).await;
        if let Ok(Some(verdict)) = answered {
            assert_eq!(verdict["allowed"], true);
            allowed += 1;
            break lock;
        }
        assert!(ids.start < 40, "no unit is leased");
    };
    gateway.kill();
    lock.rollback().await.unwrap();
    let bases = [world.base().to_owned()];
    allowed += allowed_of(&world, &bases, 20_000, 1_200).await;
    assert!(allowed as u64 <= LIMIT, "{allowed} runs of {LIMIT} were allowed");
    world.finish().await;
}

/// Runs that count against the limit, by their rows and by the tallies.
async fn written_down(world: &Harness) -> (i64, i64) {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM admissions WHERE reserved),
                (SELECT coalesce(sum(units), 0)::bigint FROM tallies)",
    )
    .fetch_one(world.bench.pool())
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_gateway_also_decided_is_tallied_once() {
    let world = Harness::start().await;
    world.with_tenants(LIMIT).await;
    world.counted(usage("north", 0, 1)).await;
    let bases = [world.base().to_owned()];
    assert_eq!(allowed_of(&world, &bases, 0, 20).await, 20);
    let decided_elsewhere = "WITH decided AS (
             INSERT INTO admissions (key, tenant, admitted_at, reserved, allowed, reason, reserved_units, resets_at)
             SELECT encode(substring(sha256('north\\000run-'::bytea || number::text::bytea) FOR 16), 'hex')::uuid,
                    'north', admitted_at, true, true, 'within_limit', 1, resets_at
             FROM generate_series(100, 119) AS number, (SELECT * FROM admissions LIMIT 1) AS like_it
             RETURNING admitted_at)
         INSERT INTO tallies (tenant, slot, replica, units)
         SELECT 'north', floor(extract(epoch FROM admitted_at) / 5)::bigint, gen_random_uuid(), count(*)
         FROM decided GROUP BY 2";
    eventually("the first runs are stored", || async {
        (written_down(&world).await == (20, 20)).then_some(())
    })
    .await;
    sqlx::query(decided_elsewhere).execute(world.bench.pool()).await.unwrap();
    // This gateway has decided alone so far, and takes the ids for new if it holds units.
    assert_eq!(allowed_of(&world, &bases, 100, 40).await, 40);
    eventually("the others are stored", || async { (written_down(&world).await == (60, 60)).then_some(()) })
        .await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lose_no_run_and_tally_none_twice() {
    let world = Harness::start().await;
    world.with_tenants(LIMIT).await;
    world.counted(usage("north", 0, 1)).await;
    let base = world.base();
    let asked = AtomicUsize::new(0);
    let requests = stream::iter(0..600_usize)
        .map(|id| {
            let (world, asked) = (&world, &asked);
            async move {
                let verdict = ask(world, base, id).await;
                asked.fetch_add(1, Ordering::Relaxed);
                verdict.is_some_and(|verdict| verdict["allowed"] == true)
            }
        })
        .buffer_unordered(16)
        .fold(0_i64, |sum, allowed| async move { sum + i64::from(allowed) });
    // All connections of this test's database; monitoring loses its connection as well, and reconnects.
    let breaks = async {
        for after in [50, 150, 300, 450] {
            while asked.load(Ordering::Relaxed) < after {
                tokio::task::yield_now().await;
            }
            let broken = sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            );
            broken.execute(world.bench.pool()).await.unwrap();
        }
    };
    let (allowed, ()) = tokio::join!(requests, breaks);
    assert!(allowed > 0, "somebody was allowed");
    let (rows, tallied) = eventually("every run is stored and tallied", || async {
        let (rows, tallied) = written_down(&world).await;
        (rows == tallied && rows >= allowed).then_some((rows, tallied))
    })
    .await;
    assert!(rows <= 600 && tallied <= 600, "{rows} rows, {tallied} tallied");
    world.finish().await;
}

/// The outstanding units of each replica in the ledger.
async fn outstanding(world: &Harness) -> Vec<u64> {
    let held: Vec<i64> = sqlx::query_scalar("SELECT outstanding FROM leases WHERE outstanding > 0")
        .fetch_all(world.bench.pool())
        .await
        .unwrap();
    held.into_iter().map(|units| u64::try_from(units).unwrap()).collect()
}

/// Asks for a run with a new id.
async fn next_allowed(world: &Harness, base: &str, ids: &AtomicUsize) -> bool {
    ask(world, base, ids.fetch_add(1, Ordering::Relaxed)).await.unwrap()["allowed"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn false_refusals_of_two_gateways_are_bounded_by_their_outstanding_units() {
    let world = Harness::start().await;
    world.with_tenants(LIMIT).await;
    world.counted(usage("north", 0, 1)).await;
    let second = world.replica().await;
    let look =
        || answer(world.request_to(&second, Method::GET, "/v1/admissions/north").bearer_auth(OPERATOR));
    eventually("the second gateway has the figures", || async {
        (look().await.1["used"] == 0).then_some(())
    })
    .await;
    let ids = AtomicUsize::new(0);
    let mut allowed = 0;
    eventually("both hold units", || async {
        let asked =
            [next_allowed(&world, world.base(), &ids).await, next_allowed(&world, &second, &ids).await];
        assert_eq!(asked, [true, true]);
        (outstanding(&world).await.len() == 2).then_some(())
    })
    .await;
    allowed += ids.load(Ordering::Relaxed) as u64;

    // The first gateway gets a request now and then, and keeps its units; the second uses up all it can get.
    let falsely_refused_max = loop {
        allowed += u64::from(next_allowed(&world, world.base(), &ids).await);
        let before: u64 = outstanding(&world).await.iter().sum();
        let mut was_refused = false;
        for _ in 0..20 {
            let is_allowed = next_allowed(&world, &second, &ids).await;
            allowed += u64::from(is_allowed);
            was_refused |= !is_allowed;
        }
        if was_refused {
            break before;
        }
        assert!(allowed <= LIMIT, "{allowed} runs of {LIMIT} were allowed");
    };
    assert!(
        LIMIT - allowed <= falsely_refused_max,
        "{allowed} of {LIMIT} allowed, {falsely_refused_max} units outstanding"
    );
    assert!(falsely_refused_max <= LIMIT / 8 * 2);

    // Outstanding units are returned, and then all of the limit is used.
    eventually("the rest is allowed", || async {
        next_allowed(&world, &second, &ids).await;
        (look().await.1["remaining"] == 0).then_some(())
    })
    .await;
    assert_eq!(look().await.1["used"], LIMIT);

    // Both gateways repeat the first answer to an id.
    for id in [0, 1, 2, 3] {
        let given = [ask(&world, world.base(), id).await.unwrap(), ask(&world, &second, id).await.unwrap()];
        assert_eq!((&given[0]["allowed"], &given[0]["used"]), (&json!(true), &given[1]["used"]));
    }
    world.finish().await;
}
