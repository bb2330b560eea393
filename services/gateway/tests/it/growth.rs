//! Data that grows with time or with requests: a decision costs the same however much there is, and old rows
//! are deleted.

use chassis::KeepFor;
use gateway::purge_round;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Counted, TestBed};

use crate::harness::{Harness, NOW, plan, usage};

/// Decisions of one measurement.
const DECISIONS: i64 = 20;

/// The first hour for which figures of refused runs are kept: 400 days before the midnight of [`NOW`].
const REFUSALS_FROM: i64 = 1_795_521_600 / 3_600 - 12 - 400 * 24;

fn kept() -> KeepFor {
    KeepFor::days(400)
}

/// The slot of [`NOW`]: five seconds each.
const NOW_SLOT: i64 = 1_795_521_600 / 5;

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect(statement);
}

async fn number(pool: &PgPool, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(pool).await.expect(statement)
}

/// Rows that decisions read, all of the ledger's work for them included.
async fn read_by_decisions(world: &Harness, counted: &Counted, name: &str) -> i64 {
    let read = counted.rows_of_all().await;
    for id in 0..DECISIONS {
        let input = json!({"tenant": "north", "id": format!("{name}-{id}"), "workflow": "w1"});
        let (status, verdict) = world.ask(Method::POST, "/v1/admissions", Some(input)).await;
        assert_eq!((status, &verdict["allowed"]), (200, &json!(true)), "{verdict}");
    }
    counted.rows_of_all().await - read
}

/// A tenant whose runs are each decided in the ledger.
async fn capped() -> (Harness, Counted) {
    let world = Harness::start().await;
    let mut plan = plan(1_000_000);
    plan["admission"] =
        json!({"workflow_caps": {"per_day": 100_000, "concurrent": 50_000}, "workflow_share_percent": 90});
    world.put("/v1/plans/pro", plan).await;
    world.put("/v1/tenants/north", json!({"name": "north", "plan": "pro"})).await;
    let counted = Counted::beside(world.bench.pool()).await;
    (world, counted)
}

/// How much more a hundred times as many rows may cost: the depth of an index, and background work.
fn assert_flat(few: i64, many: i64) {
    assert!(many <= few * 2 + 2_000, "{few} rows were read with few, {many} with a hundred times as many");
}

#[tokio::test]
async fn a_decision_reads_only_its_own_caps() {
    let (world, counted) = capped().await;
    world.counted(usage("north", 0, 1)).await;
    let fill = |from: u32, to: u32| {
        format!(
            "INSERT INTO caps SELECT 'north', 'made-up-' || n, 'day', 1795600000000000000 FROM generate_series({from}, {to}) AS n;
             INSERT INTO workflows SELECT 'north', 'made-up-' || n, {NOW_SLOT} / 12, 1, 1 FROM generate_series({from}, {to}) AS n;
             ANALYZE caps, workflows;"
        )
    };
    counted.run(&fill(1, 100)).await;
    let few = read_by_decisions(&world, &counted, "few").await;
    counted.run(&fill(101, 10_000)).await;
    let many = read_by_decisions(&world, &counted, "many").await;
    assert_flat(few, many);
    counted.pool.close().await;
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_costs_the_same_with_a_hundred_times_as_many_hours_of_refusals() {
    let world = Harness::start().await;
    world.with_tenants(0).await;
    world.counted(usage("north", 0, 1)).await;
    let counted = Counted::beside(world.bench.pool()).await;
    let fill = |from: i64, to: i64| {
        format!(
            "INSERT INTO refusals SELECT 'north', {NOW_SLOT} / 720 - n, false, 'limit_reached', false, 'w1', 1
                 FROM generate_series({from}, {to}) AS n;
             ANALYZE refusals;"
        )
    };
    let read = async |name: &str| {
        let read = counted.rows_of_all().await;
        for id in 0..DECISIONS {
            let input = json!({"tenant": "north", "id": format!("{name}-{id}"), "workflow": "w1"});
            let (_, verdict) = world.ask(Method::POST, "/v1/admissions", Some(input)).await;
            assert_eq!(verdict["allowed"], json!(false), "{verdict}");
        }
        counted.rows_of_all().await - read
    };
    counted.run(&fill(1, 100)).await;
    let few = read("few").await;
    counted.run(&fill(101, 10_000)).await;
    let many = read("many").await;
    assert_flat(few, many);
    counted.pool.close().await;
    world.finish().await;
}

/// Adds slots without the table's triggers, and their units to the sums in one statement. The trigger changes a sum once for
/// each row; ten thousand dead versions of one row are read again and again until nobody could see them any more.
fn summed_once(table: &str, workflow: &str, (from, to): (i64, i64), fill: &str) -> String {
    format!(
        "ALTER TABLE {table} DISABLE TRIGGER USER;
         {fill}
         UPDATE tally_sums SET units = units
             + (SELECT count(*) FROM generate_series({from}, {to}) AS n WHERE {NOW_SLOT} - 1000 - n >= since_slot)
         WHERE workflow = '{workflow}';
         ALTER TABLE {table} ENABLE TRIGGER USER;"
    )
}

#[tokio::test]
async fn a_decision_at_the_end_of_a_period_reads_no_more_than_at_its_start() {
    let (world, counted) = capped().await;
    world.counted(usage("north", 0, 1)).await;
    // Slots of this period, long before the watermark.
    let fill = |from: i64, to: i64| {
        format!(
            "INSERT INTO workflow_tallies SELECT 'north', 'w1', {NOW_SLOT} - 1000 - n, gen_random_uuid(), 1
                 FROM generate_series({from}, {to}) AS n;
             ANALYZE workflow_tallies;"
        )
    };
    let fill = |from, to| summed_once("workflow_tallies", "w1", (from, to), &fill(from, to));
    counted.run(&fill(1, 100)).await;
    // The first decision of a period, or after a change of its start, computes the sum.
    read_by_decisions(&world, &counted, "first").await;
    let few = read_by_decisions(&world, &counted, "few").await;
    counted.run(&fill(101, 10_000)).await;
    let many = read_by_decisions(&world, &counted, "many").await;
    assert_flat(few, many);
    let kept =
        number(world.bench.pool(), "SELECT units FROM tally_sums WHERE workflow = 'w1' AND span = 'period'");
    let slots = "SELECT sum(units)::bigint FROM workflow_tallies WHERE workflow = 'w1'";
    assert_eq!(kept.await, number(world.bench.pool(), slots).await, "the stored sum is correct");
    counted.pool.close().await;
    world.finish().await;
}

#[tokio::test]
async fn a_source_that_was_never_complete_does_not_make_decisions_slower() {
    let (world, counted) = capped().await;
    world.counted(proto::v1::UsageCounted { complete_until: None, ..usage("north", 0, 1) }).await;
    let fill = |from: i64, to: i64| {
        format!(
            "INSERT INTO tallies (tenant, slot, replica, units) SELECT 'north', {NOW_SLOT} - 1000 - n, gen_random_uuid(), 1
                 FROM generate_series({from}, {to}) AS n;
             ANALYZE tallies;"
        )
    };
    let fill = |from, to| summed_once("tallies", "", (from, to), &fill(from, to));
    counted.run(&fill(1, 100)).await;
    read_by_decisions(&world, &counted, "first").await;
    let few = read_by_decisions(&world, &counted, "few").await;
    counted.run(&fill(101, 10_000)).await;
    let many = read_by_decisions(&world, &counted, "many").await;
    assert_flat(few, many);
    let (_, verdict) = world
        .ask(Method::POST, "/v1/admissions", Some(json!({"tenant": "north", "id": "last", "workflow": "w1"})))
        .await;
    let slots = number(world.bench.pool(), "SELECT sum(units)::bigint FROM tallies").await;
    assert_eq!(verdict["used"], slots, "runs allowed since the period began count against the limit");
    counted.pool.close().await;
    world.finish().await;
}

#[tokio::test]
async fn ten_thousand_revoked_tokens_do_not_prevent_a_new_one() {
    let world = Harness::start().await;
    world.with_tenants(10).await;
    let living = world.token_of("north").await;
    run(
        world.bench.pool(),
        "INSERT INTO tokens (id, kind, hash, created_at, revoked_at)
         SELECT gen_random_uuid(), 'operator', sha256(n::text::bytea), timestamptz '2026-11-24' + n * interval '1 s',
             timestamptz '2026-11-24' + n * interval '1 s' FROM generate_series(1, 10000) AS n",
    )
    .await;
    let (status, made) = world.ask(Method::POST, "/v1/tokens", Some(json!({}))).await;
    assert_eq!(status, 201, "{made}");
    let listed = world.get("/v1/tokens").await;
    let living_ones =
        listed["tokens"].as_array().unwrap().iter().filter(|token| token["revoked_at"].is_null());
    assert_eq!(living_ones.count(), 2, "valid tokens are listed, however many are revoked");
    assert_eq!(world.ask_as(&living, Method::GET, "/v1/usage/north", None).await.0, 200);

    run(
        world.bench.pool(),
        "INSERT INTO tokens (id, kind, hash, created_at)
         SELECT gen_random_uuid(), 'operator', sha256(('good' || n)::bytea), '2026-11-24' FROM generate_series(1, 9998) AS n",
    )
    .await;
    let (status, refused) = world.ask(Method::POST, "/v1/tokens", Some(json!({}))).await;
    assert_ne!(status, 201, "ten thousand valid tokens are the limit");
    assert!(refused.to_string().contains("revoke"), "{refused}");
    world.finish().await;
}

#[tokio::test]
async fn a_token_has_at_most_a_thousand_sessions_and_the_oldest_end() {
    let world = Harness::start().await;
    world.with_tenants(10).await;
    let token = world.token_of("north").await;
    run(
        world.bench.pool(),
        "INSERT INTO sessions SELECT sha256(n::text::bytea), hash, timestamptz '2026-11-24T12:00:01Z' + n * interval '1 s'
         FROM tokens, generate_series(1, 1200) AS n",
    )
    .await;
    let sign_in = world.request(Method::POST, "/v1/session").json(&json!({"token": token}));
    assert!(sign_in.send().await.unwrap().status().is_success());
    let pool = world.bench.pool();
    assert_eq!(number(pool, "SELECT count(*) FROM sessions").await, 1_000);
    let first = "SELECT count(*) FROM sessions WHERE expires_at < '2026-11-24T12:03:00Z'";
    assert_eq!(number(pool, first).await, 0, "the oldest sessions have ended");
    world.finish().await;
}

/// Old rows of two tenants, `north` and the removed `gone`, and as many recent ones.
const FILLED: &str = "
INSERT INTO ledgers (tenant, decider) VALUES ('north', gen_random_uuid()), ('gone', gen_random_uuid());
INSERT INTO admissions (key, admitted_at, reserved_units, resets_at, allowed, reserved, tenant, reason)
SELECT gen_random_uuid(), at, 1, at, true, true, tenant, 'within_limit'
FROM unnest(ARRAY['north', 'gone']) AS tenant, unnest(ARRAY[timestamptz '2026-09-21T11:00Z', timestamptz '2026-09-21T12:00Z']) AS at,
     generate_series(1, 30);
INSERT INTO tallies (tenant, slot, replica, units) SELECT tenant, slot, gen_random_uuid(), 1 FROM unnest(ARRAY['north', 'gone']) AS tenant,
    unnest(ARRAY[357998400 - 1, 357998400]) AS slot, generate_series(1, 30);
INSERT INTO workflow_tallies SELECT tenant, 'w' || n, slot, gen_random_uuid(), 1 FROM unnest(ARRAY['north', 'gone']) AS tenant,
    unnest(ARRAY[357998400 - 1, 357998400]) AS slot, generate_series(1, 30) AS n;
INSERT INTO tally_sums SELECT tenant, 'w' || n, span, slot, 1 FROM unnest(ARRAY['north', 'gone']) AS tenant,
    (VALUES ('period', 357998400 - 1), ('since', 357998400)) AS sums (span, slot), generate_series(1, 30) AS n;
INSERT INTO leases SELECT tenant, '', gen_random_uuid(), 1, at FROM unnest(ARRAY['north', 'gone']) AS tenant,
    unnest(ARRAY[timestamptz '2026-09-21T11:00Z', timestamptz '2026-11-24T12:00:05Z']) AS at;
INSERT INTO caps SELECT tenant, 'w' || n, 'day', CASE WHEN n <= 30 THEN 1795521599999999999 ELSE 1795521600000000001 END
    FROM unnest(ARRAY['north', 'gone']) AS tenant, generate_series(1, 60) AS n;
INSERT INTO caps VALUES ('north', '', 'day', 1795521600000000001);
INSERT INTO workflows SELECT tenant, 'w' || n, CASE WHEN n <= 30 THEN 29910959 ELSE 29910960 END, 1, 1
    FROM unnest(ARRAY['north', 'gone']) AS tenant, generate_series(1, 60) AS n;
INSERT INTO closed_periods SELECT 'north', timestamptz '2010-01-01Z' + n * interval '1 month',
    timestamptz '2010-02-01Z' + n * interval '1 month', 1, NULL, '' FROM generate_series(1, 90) AS n;
INSERT INTO gaps SELECT 'n8n', 1, n::text, n::text, 'unspecified',
    CASE WHEN n <= 30 THEN timestamptz '2026-08-26T11:00Z' ELSE timestamptz '2026-08-26T13:00Z' END FROM generate_series(1, 60) AS n;
INSERT INTO sessions SELECT sha256(n::text::bytea), '', CASE WHEN n <= 30 THEN timestamptz '2026-11-24T12:00Z'
    ELSE timestamptz '2026-11-24T12:01Z' END FROM generate_series(1, 60) AS n;
INSERT INTO tokens (id, kind, hash, created_at, revoked_at) SELECT gen_random_uuid(), 'operator', sha256(n::text::bytea),
    '2024-01-01', CASE WHEN n <= 30 THEN timestamptz '2025-10-20Z' WHEN n <= 60 THEN timestamptz '2025-10-21Z' END
    FROM generate_series(1, 90) AS n;
";

/// Refused runs of an existing and a removed tenant, in an old and in a recent hour.
fn refused() -> String {
    format!(
        "INSERT INTO refusals SELECT tenant, hour, false, 'limit_reached', false, 'w' || n, 1
         FROM unnest(ARRAY['north', 'gone']) AS tenant, unnest(ARRAY[{REFUSALS_FROM} - 1, {REFUSALS_FROM}]) AS hour,
              generate_series(1, 30) AS n"
    )
}

const TABLES: [&str; 13] = [
    "admissions",
    "tallies",
    "workflow_tallies",
    "tally_sums",
    "leases",
    "caps",
    "workflows",
    "closed_periods",
    "gaps",
    "sessions",
    "tokens",
    "ledgers",
    "refusals",
];

async fn sizes(pool: &PgPool) -> Vec<(&'static str, i64)> {
    let mut sizes = Vec::new();
    for table in TABLES {
        sizes.push((table, number(pool, &format!("SELECT count(*) FROM {table}")).await));
    }
    sizes
}

/// A bench without a gateway, so that only the test purges.
async fn with_tenant() -> TestBed {
    let bench = TestBed::of::<gateway::Gateway>(NOW).await;
    let tenant = proto::v1::Tenant {
        tenant_id: "north".into(),
        name: "North".into(),
        plan_id: "pro".into(),
        time_zone: "UTC".into(),
        ..proto::v1::Tenant::default()
    };
    let value = prost::Message::encode_to_vec(&tenant);
    let statement =
        "INSERT INTO catalog (kind, id, revision, removed, value) VALUES ('tenant', 'north', 1, false, $1)";
    sqlx::query(statement).bind(value).execute(bench.pool()).await.unwrap();
    bench
}

#[tokio::test]
async fn the_purge_deletes_old_rows_and_keeps_the_rest() {
    let bench = with_tenant().await;
    let now: Timestamp = NOW.parse().unwrap();
    run(bench.pool(), FILLED).await;
    run(bench.pool(), &refused()).await;
    purge_round(bench.pool(), kept(), now).await.unwrap();
    let left = [
        ("admissions", 60),
        // Of the removed tenant only verdicts and unexpired leases.
        ("tallies", 30),
        ("workflow_tallies", 30),
        ("tally_sums", 30),
        ("leases", 2),
        ("caps", 31),
        ("workflows", 30),
        ("closed_periods", 60),
        ("gaps", 30),
        ("sessions", 30),
        ("tokens", 60),
        ("ledgers", 2),
        // Of the removed tenant too: its figures stay readable as long as those of others.
        ("refusals", 60),
    ];
    assert_eq!(sizes(bench.pool()).await, left);
    let oldest = "SELECT count(*) FROM closed_periods WHERE period_start < '2012-08-01Z'";
    assert_eq!(number(bench.pool(), oldest).await, 0, "the newest sixty stay");
    purge_round(bench.pool(), kept(), now).await.unwrap();
    assert_eq!(sizes(bench.pool()).await, left, "a second round finds nothing");

    let later: Timestamp = "2027-01-29T12:00:00Z".parse().unwrap();
    purge_round(bench.pool(), kept(), later).await.unwrap();
    let ledgers = "SELECT count(*) FROM ledgers WHERE tenant = 'gone'";
    assert_eq!(number(bench.pool(), ledgers).await, 0, "after two months none of its verdicts can be left");
    assert_eq!(number(bench.pool(), "SELECT count(*) FROM admissions").await, 0);
    bench.finish().await;
}

#[tokio::test]
async fn a_tenant_keeps_ten_thousand_caps_and_rates_and_its_own_cap() {
    let bench = with_tenant().await;
    run(
        bench.pool(),
        "INSERT INTO ledgers (tenant, decider) VALUES ('north', gen_random_uuid());
         INSERT INTO caps SELECT 'north', 'w' || n, 'day', 1795521600000000000 + n FROM generate_series(1, 25000) AS n;
         INSERT INTO caps VALUES ('north', '', 'day', 1795521600000000001), ('south', 'w1', 'day', 1795521600000000001);
         INSERT INTO workflows SELECT 'north', 'w' || n, 29925000 + n / 2, 1, 1 FROM generate_series(1, 25000) AS n;",
    )
    .await;
    purge_round(bench.pool(), kept(), NOW.parse().unwrap()).await.unwrap();
    let (caps, rates) = ("SELECT count(*) FROM caps", "SELECT count(*) FROM workflows");
    assert_eq!((number(bench.pool(), caps).await, number(bench.pool(), rates).await), (10_002, 10_000));
    let least =
        "SELECT min(arrival_ns) - 1795521600000000000 FROM caps WHERE tenant = 'north' AND workflow <> ''";
    assert_eq!(number(bench.pool(), least).await, 15_001, "those furthest from rest stay");
    bench.finish().await;
}

#[tokio::test]
async fn a_purge_with_nothing_to_do_costs_the_same_for_a_hundred_times_the_rows() {
    let bench = with_tenant().await;
    let counted = Counted::beside(bench.pool()).await;
    let fill = |from: i64, to: i64| {
        format!(
            "INSERT INTO tallies (tenant, slot, replica, units) SELECT 'north', {NOW_SLOT} - n, gen_random_uuid(), 1 FROM generate_series({from}, {to}) AS n;
             INSERT INTO workflow_tallies SELECT 'north', 'w' || n, {NOW_SLOT} - n, gen_random_uuid(), 1
                 FROM generate_series({from}, {to}) AS n;
             INSERT INTO sessions SELECT sha256(n::text::bytea), '', timestamptz '2026-11-24T12:01Z'
                 FROM generate_series({from}, {to}) AS n;
             INSERT INTO tokens (id, kind, hash, created_at) SELECT gen_random_uuid(), 'operator', sha256(n::text::bytea),
                 '2026-01-01' FROM generate_series({from}, {to}) AS n;
             INSERT INTO refusals SELECT 'north', {REFUSALS_FROM} + n, false, 'limit_reached', false, 'w1', 1
                 FROM generate_series({from}, {to}) AS n;
             ANALYZE;"
        )
    };
    run(bench.pool(), "INSERT INTO ledgers (tenant, decider) VALUES ('north', gen_random_uuid())").await;
    let mut reads = Vec::new();
    for (from, to) in [(1, 300), (301, 30_000)] {
        counted.run(&fill(from, to)).await;
        let before = counted.rows().await;
        purge_round(&counted.pool, kept(), NOW.parse().unwrap()).await.unwrap();
        reads.push(counted.rows().await - before);
    }
    assert_flat(reads[0], reads[1]);
    counted.pool.close().await;
    bench.finish().await;
}
