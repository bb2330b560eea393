//! What an incremental collector has to survive.

use jiff::{SignedDuration, Timestamp};
use metering::Clock as _;
use sandbox::n8n::{BIG_PAGE_BYTES, Mode, N8nFault, Runs, Start, Status, Version, Wait, WorkflowChange};
use serde_json::Value;

use crate::harness::{Harness, send, until};

#[tokio::test]
async fn a_walk_with_the_cursor_sees_every_row_once_while_new_ones_arrive() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").count(605)).unwrap();
    let mut seen = Vec::new();
    let mut query = "/executions?limit=250".to_owned();
    loop {
        let page = bench.n8n(&query).await.json();
        let rows = page["data"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().parse::<u64>().unwrap()));
        n8n.run(&Runs::of("w1").count(10)).unwrap();
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("/executions?cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=605).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn limits_follow_the_version() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").count(300)).unwrap();
    assert_eq!(bench.n8n_ids("/executions").await.len(), 100);
    assert_eq!(bench.n8n_ids("/executions?limit=1000").await.len(), 250);
    assert_eq!(bench.n8n_ids("/executions?limit=0").await.len(), 300);
    assert_eq!(bench.n8n_ids("/executions?limit=5&stoppedAfter=x").await.len(), 5);

    n8n.configure(|config| config.version = Version::V1_123);
    assert_eq!(bench.n8n("/executions?limit=1000").await.status, 400);
    assert_eq!(bench.n8n("/executions?stoppedAfter=x").await.status, 400);
    assert_eq!(bench.n8n("/executions?status=crashed").await.status, 400);
    assert_eq!(bench.n8n_ids("/executions?limit=0").await.len(), 300);
}

#[tokio::test]
async fn filters_are_not_in_the_cursor() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    for _ in 0..4 {
        n8n.run(&Runs::of("w1").status(Status::Error)).unwrap();
        n8n.run(&Runs::of("w2")).unwrap();
    }
    let page = bench.n8n("/executions?status=error&limit=2").await.json();
    let cursor = page["nextCursor"].as_str().unwrap();
    assert_eq!(bench.n8n_ids(&format!("/executions?cursor={cursor}")).await, ["4", "3"]);
    assert_eq!(bench.n8n_ids(&format!("/executions?status=error&cursor={cursor}")).await, ["3", "1"]);
    assert_eq!(bench.n8n_ids("/executions?workflowId=w2").await, ["8", "6", "4", "2"]);
}

#[tokio::test]
async fn the_start_filters_are_inclusive_and_skip_queued_executions() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    let now = bench.sandbox.clock().now();
    bench.sandbox.clock().set(at("2026-11-24T12:00:00Z").max(now));
    let base = bench.sandbox.clock().now();
    for seconds in [30, 20, 10] {
        let stopped_at = base - SignedDuration::from_secs(seconds);
        n8n.run(&Runs::of("w1").lasting(SignedDuration::ZERO).stopped_at(stopped_at)).unwrap();
    }
    n8n.start(&Start::of("w1").queued()).unwrap();
    let rows = bench.n8n("/executions").await.json();
    let second = rows["data"][2]["startedAt"].as_str().unwrap();
    assert_eq!(bench.n8n_ids(&format!("/executions?startedAfter={second}")).await, ["3", "2"]);
    assert_eq!(bench.n8n_ids(&format!("/executions?startedBefore={second}")).await, ["2", "1"]);
}

#[tokio::test]
async fn the_default_list_hides_only_what_its_own_process_runs() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    let here = n8n.start(&Start::of("w1")).unwrap();
    n8n.start(&Start::of("w1").elsewhere()).unwrap();
    n8n.start(&Start::of("w1").queued()).unwrap();
    let waiting = n8n.start(&Start::of("w1")).unwrap();
    let wait = Wait { in_memory: true, ..Wait::lasting(SignedDuration::from_secs(60)) };
    n8n.wait(waiting, wait).unwrap();

    assert_eq!(bench.n8n_ids("/executions").await, ["4", "3", "2"]);
    assert_eq!(bench.n8n_ids("/executions?status=running").await, ["2", "1"]);
    assert_eq!(bench.n8n(&format!("/executions/{here}")).await.json()["status"], "running");

    n8n.configure(|config| config.version = Version::V1_123);
    assert_eq!(bench.n8n_ids("/executions").await, ["3", "2"]);
    assert_eq!(bench.n8n_ids("/executions?status=waiting").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_late_finisher_ends_when_the_clock_says_so() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.start(&Start::of("w1").ending(SignedDuration::from_hours(3), Status::Error)).unwrap();
    n8n.run(&Runs::of("w1").count(2)).unwrap();
    assert_eq!(bench.n8n_ids("/executions").await, ["3", "2"]);
    bench.sandbox.clock().advance(SignedDuration::from_hours(4));
    assert_eq!(bench.n8n_ids("/executions").await, ["3", "2", "1"]);
    let row = bench.n8n("/executions/1").await.json();
    let at = |field: &str| row[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(row["status"], "error");
    assert_eq!(at("stoppedAt").duration_since(at("startedAt")), SignedDuration::from_hours(3));
}

#[tokio::test]
async fn a_waiting_run_has_stopped_and_moves_its_end() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    let id = n8n.start(&Start::of("w1")).unwrap();
    n8n.wait(id, Wait::lasting(SignedDuration::from_mins(10)).then(Status::Success)).unwrap();
    let waiting = bench.n8n("/executions/1").await.json();
    assert_eq!(waiting["status"], "waiting");
    assert!(waiting["stoppedAt"].is_string() && waiting["waitTill"].is_string());
    bench.sandbox.clock().advance(SignedDuration::from_mins(11));
    let done = bench.n8n("/executions/1").await.json();
    assert_eq!((&done["status"], &done["waitTill"]), (&Value::from("success"), &Value::Null));
    assert_eq!(done["startedAt"], waiting["startedAt"]);
    assert_eq!(done["stoppedAt"], waiting["waitTill"]);
}

#[tokio::test]
async fn a_crashed_run_turns_into_an_error_with_a_new_end() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    let id = n8n.start(&Start::of("w1")).unwrap();
    n8n.finish(id, Status::Crashed).unwrap();
    let crashed = bench.n8n("/executions/1").await.json();
    bench.sandbox.clock().advance(SignedDuration::from_secs(30));
    n8n.finish(id, Status::Error).unwrap();
    let recovered = bench.n8n("/executions/1").await.json();
    assert_eq!((&crashed["status"], &recovered["status"]), (&"crashed".into(), &"error".into()));
    assert!(recovered["stoppedAt"].as_str() > crashed["stoppedAt"].as_str());
    assert!(n8n.finish(id, Status::Success).is_err(), "an error is final");
}

#[tokio::test]
async fn a_retry_is_a_new_execution() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    let failed = n8n.run(&Runs::of("w1").status(Status::Error)).unwrap()[0];
    let retry = n8n.retry(failed, Status::Success).unwrap();
    let retry = bench.n8n(&format!("/executions/{retry}")).await.json();
    assert_eq!((&retry["mode"], &retry["retryOf"]), (&"retry".into(), &"1".into()));
    let original = bench.n8n("/executions/1").await.json();
    assert_eq!((&original["status"], &original["retrySuccessId"]), (&"error".into(), &"2".into()));
}

#[tokio::test]
async fn ids_are_burnt_committed_late_deleted_and_pruned() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").unsaved().count(2)).unwrap();
    let uncommitted = n8n.run(&Runs::of("w1").uncommitted()).unwrap()[0];
    n8n.run(&Runs::of("w1").count(3)).unwrap();
    assert_eq!(bench.n8n_ids("/executions").await, ["6", "5", "4"]);
    assert_eq!(bench.n8n("/executions/1").await.status, 404);

    n8n.commit(uncommitted).unwrap();
    assert_eq!(bench.n8n_ids("/executions").await, ["6", "5", "4", "3"]);
    n8n.delete(5).unwrap();
    assert_eq!(bench.n8n_ids("/executions").await, ["6", "4", "3"]);
    assert_eq!(n8n.prune(1), 2);
    assert_eq!(bench.n8n_ids("/executions").await, ["6"]);
    assert_eq!(n8n.executions().len(), 6, "the stand-in remembers them all");
    assert_eq!(n8n.tallies().iter().map(|tally| tally.count).sum::<u64>(), 6);
}

#[tokio::test]
async fn rows_are_pruned_by_count_and_by_age() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.configure(|config| config.retain_rows = 10);
    n8n.run(&Runs::of("w1").count(25)).unwrap();
    assert_eq!(bench.n8n_ids("/executions").await.len(), 10);
    let open = n8n.start(&Start::of("w1").elsewhere()).unwrap();
    bench.sandbox.clock().advance(SignedDuration::from_hours(337));
    assert_eq!(bench.n8n_ids("/executions").await, [open.to_string()]);
}

#[tokio::test]
async fn a_restored_database_assigns_the_same_ids_again() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").count(5)).unwrap();
    n8n.restore(2);
    assert_eq!(bench.n8n_ids("/executions").await, ["2", "1"]);
    assert_eq!(n8n.run(&Runs::of("w2").count(2)).unwrap(), [3, 4]);
    assert_eq!(n8n.tallies().iter().map(|tally| tally.count).sum::<u64>(), 7);
    n8n.restore(0);
    assert_eq!(n8n.run(&Runs::of("w2")).unwrap(), [1]);
}

#[tokio::test]
async fn deleting_over_the_api_answers_with_a_number_and_refuses_running_executions() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1")).unwrap();
    n8n.start(&Start::of("w1")).unwrap();
    let delete = |id: u32| {
        let url = format!("{}/api/v1/executions/{id}", bench.sandbox.n8n_url("north"));
        send(bench.delete(url).header("X-N8N-API-KEY", "key-north"))
    };
    assert_eq!(delete(1).await.json()["id"], 1);
    assert_eq!(delete(1).await.status, 404);
    assert_eq!(delete(2).await.status, 400);
}

#[tokio::test]
async fn a_starting_n8n_answers_with_html_first() {
    let bench = Harness::new().await;
    bench.sandbox.n8n("north").restart(2, 1);
    let mut phases = Vec::new();
    for _ in 0..4 {
        let answer = bench.n8n("/executions").await;
        phases.push((answer.status, answer.content_type.starts_with("text/html")));
    }
    assert_eq!(phases, [(200, true), (200, true), (404, true), (200, false)]);
    let wrong = send(bench.get(format!("{}/rest/wrong", bench.sandbox.n8n_url("north")))).await;
    assert_eq!((wrong.status, wrong.content_type.as_str()), (200, "text/html; charset=utf-8"));
}

#[tokio::test]
async fn faults_come_on_demand() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").count(3)).unwrap();

    n8n.fault(N8nFault::RateLimit, Some(1));
    let limited = bench.n8n("/executions").await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));

    n8n.fault(N8nFault::Http500, Some(1));
    assert_eq!(bench.n8n("/executions").await.json()["message"], "Internal server error");

    n8n.fault(N8nFault::Unauthorized, None);
    assert_eq!(bench.n8n("/executions").await.status, 401);
    assert_eq!(bench.n8n("/executions/1").await.status, 401);
    n8n.clear_faults();

    n8n.fault(N8nFault::UnknownStatus, Some(1));
    assert_eq!(bench.n8n("/executions/3").await.json()["status"], "success", "only lists");
    assert_eq!(bench.n8n("/executions").await.json()["data"][0]["status"], "suspended");

    n8n.fault(N8nFault::BigPage, Some(1));
    assert!(bench.n8n("/executions").await.text.len() > BIG_PAGE_BYTES);

    n8n.set_slowness(std::time::Duration::from_millis(300));
    n8n.fault(N8nFault::Slow, Some(1));
    let began = std::time::Instant::now();
    assert_eq!(bench.n8n_ids("/executions").await.len(), 3);
    assert!(began.elapsed().as_millis() >= 300);
}

#[tokio::test]
async fn background_load_creates_runs_of_many_kinds() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").mode(Mode::Trigger)).unwrap();
    n8n.load(400.0).unwrap();
    until("there is load", || n8n.executions().len() >= 300).await;
    n8n.load(0.0).unwrap();
    let tallies = n8n.tallies();
    assert!(tallies.iter().any(|tally| tally.status == Status::Error));
    assert!(tallies.iter().any(|tally| tally.mode == Mode::Integrated));
    assert!(n8n.load(f64::NAN).is_err() && n8n.load(-1.0).is_err() && n8n.load(1e9).is_err());
}

#[tokio::test]
async fn a_workflow_shows_its_tags_its_project_and_its_new_name() {
    let bench = Harness::new().await;
    let n8n = bench.sandbox.n8n("north");
    n8n.run(&Runs::of("w1").named("Old name")).unwrap();
    let change = WorkflowChange::of("w1").named("New name").tagged(["south", "east"]).in_project("p1");
    n8n.change_workflow(&change).unwrap();
    let workflow = bench.n8n("/workflows/w1").await.json();
    assert_eq!(workflow["name"], "New name");
    assert_eq!(
        (&workflow["tags"][0]["name"], &workflow["tags"][1]["name"]),
        (&"south".into(), &"east".into())
    );
    assert_eq!(workflow["shared"][0]["projectId"], "p1");

    n8n.change_workflow(&WorkflowChange::of("w1").tagged(Vec::<String>::new())).unwrap();
    let workflow = bench.n8n("/workflows/w1").await.json();
    assert_eq!(workflow["tags"], serde_json::json!([]));
    assert_eq!((&workflow["name"], &workflow["shared"][0]["projectId"]), (&"New name".into(), &"p1".into()));
}
