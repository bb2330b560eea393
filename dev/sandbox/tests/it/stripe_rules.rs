//! The rules of meter events.

use jiff::SignedDuration;
use metering::Clock as _;
use sandbox::stripe::{EventError, Fate, Window};

use crate::harness::{Answer, Harness, send};

async fn bench() -> Harness {
    let bench = Harness::new().await;
    bench.sandbox.stripe().add_customer("cus_north").unwrap();
    bench.sandbox.stripe().add_meter("executions").unwrap();
    bench
}

fn form(identifier: &str, value: &str) -> String {
    format!(
        "event_name=executions&identifier={identifier}&payload[stripe_customer_id]=cus_north&payload[value]={value}"
    )
}

async fn send_event(bench: &Harness, identifier: &str, value: &str) -> Answer {
    bench.stripe_post("/billing/meter_events", &form(identifier, value)).await
}

#[tokio::test]
async fn an_identifier_counts_once_a_day() {
    let bench = bench().await;
    assert_eq!(send_event(&bench, "e1", "5").await.status, 200);
    let again = send_event(&bench, "e1", "5").await;
    assert_eq!((again.status, again.header("stripe-should-retry")), (400, Some("false")));
    assert_eq!(again.json()["error"]["type"], "invalid_request_error");
    assert_eq!(again.json()["error"]["message"], "An event already exists with identifier e1.");
    assert!(again.json()["error"].get("code").is_none());
    assert_eq!(bench.sandbox.stripe().total("cus_north", "executions"), 5);

    bench.sandbox.clock().advance(SignedDuration::from_hours(24));
    assert_eq!(send_event(&bench, "e1", "5").await.status, 200, "Stripe forgets, and counts twice");
    assert_eq!(bench.sandbox.stripe().total("cus_north", "executions"), 10);
}

#[tokio::test]
async fn a_200_does_not_mean_counted() {
    let bench = bench().await;
    let post = |form: &'static str| bench.stripe_post("/billing/meter_events", form);
    assert_eq!(
        post("event_name=executions&payload[stripe_customer_id]=cus_none&payload[value]=1").await.status,
        200
    );
    assert_eq!(
        post("event_name=nosuch&payload[stripe_customer_id]=cus_north&payload[value]=1").await.status,
        200
    );
    assert_eq!(
        post("event_name=executions&payload[stripe_customer_id]=cus_north&payload[value]=1.5").await.status,
        200
    );
    assert_eq!(post("event_name=executions&payload[value]=1").await.status, 200);
    assert_eq!(post("event_name=executions&payload[stripe_customer_id]=cus_north").await.status, 200);
    let fates: Vec<Fate> =
        bench.sandbox.stripe().meter_events().into_iter().map(|event| event.fate).collect();
    let expected = [
        EventError::MeterEventCustomerNotFound,
        EventError::NoMeter,
        EventError::MeterEventInvalidValue,
        EventError::MeterEventNoCustomerDefined,
        EventError::MeterEventValueNotFound,
    ];
    assert_eq!(fates, expected.map(Fate::Failed));
    assert!(bench.sandbox.stripe().totals().is_empty());
}

#[tokio::test]
async fn an_archived_meter_and_a_deleted_customer_stop_counting() {
    let bench = bench().await;
    let stripe = bench.sandbox.stripe();
    stripe.delete_customer("cus_north").unwrap();
    assert_eq!(bench.stripe_get("/customers/cus_north").await.json()["deleted"], true);
    send_event(&bench, "e1", "1").await;
    let meter = stripe.add_meter("executions").unwrap();
    stripe.archive_meter(&meter.id).unwrap();
    send_event(&bench, "e2", "1").await;
    let fates: Vec<Fate> = stripe.meter_events().into_iter().map(|event| event.fate).collect();
    assert_eq!(fates, [EventError::MeterEventCustomerNotFound, EventError::ArchivedMeter].map(Fate::Failed));
}

#[tokio::test]
async fn a_key_is_needed() {
    let bench = bench().await;
    let url = format!("{}v1/customers", bench.sandbox.stripe_url());
    assert_eq!(send(bench.get(url.clone())).await.status, 401);
    bench.sandbox.stripe().set_key(Some("sk_test_right".into()));
    let refused = send(bench.get(url.clone()).bearer_auth("sk_test_wrong")).await;
    assert_eq!(refused.status, 401);
    assert!(!refused.text.contains("sk_test_wrong"), "keys are not repeated");
    assert_eq!(send(bench.get(url).bearer_auth("sk_test_right")).await.status, 200);
}

#[tokio::test]
async fn one_call_at_a_time_for_a_customer_and_meter() {
    let bench = bench().await;
    bench.sandbox.stripe().add_customer("cus_south").unwrap();
    bench.sandbox.stripe().set_latency(std::time::Duration::from_millis(400));
    let other = form("e3", "1").replace("cus_north", "cus_south");
    let (one, two, other) = tokio::join!(
        send_event(&bench, "e1", "1"),
        send_event(&bench, "e2", "1"),
        bench.stripe_post("/billing/meter_events", &other),
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!((statuses, other.status), ([200, 429], 200));
    let refused = if one.status == 429 { one } else { two };
    assert_eq!(refused.json()["error"]["code"], "lock_timeout");
    assert_eq!(send_event(&bench, "e4", "1").await.status, 200, "the lock is released");
}

#[tokio::test]
async fn an_idempotency_key_replays_its_first_answer() {
    let bench = bench().await;
    let call =
        |form: String| bench.stripe_call("/billing/meter_events", &form).header("idempotency-key", "k1");
    let first = send(call(form("e1", "5"))).await;
    let again = send(call(form("e1", "5"))).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.json(), again.json());
    let changed = send(call(form("e1", "6"))).await;
    assert_eq!((changed.status, &changed.json()["error"]["type"]), (400, &"idempotency_error".into()));
    assert_eq!(bench.sandbox.stripe().total("cus_north", "executions"), 5);
}

#[tokio::test]
async fn a_refused_call_does_not_use_up_its_key() {
    let bench = bench().await;
    let call =
        |form: String| bench.stripe_call("/billing/meter_events", &form).header("idempotency-key", "k1");
    assert_eq!(send(call("event_name=executions".into())).await.status, 400);
    assert_eq!(send(call(form("e1", "5"))).await.status, 200);
}

#[tokio::test]
async fn an_event_can_be_canceled_for_a_day() {
    let bench = bench().await;
    send_event(&bench, "e1", "5").await;
    send_event(&bench, "e2", "7").await;
    let cancel = |identifier: &str| {
        let form = format!("event_name=executions&type=cancel&cancel[identifier]={identifier}");
        async { bench.stripe_post("/billing/meter_event_adjustments", &{ form }).await }
    };
    assert_eq!(cancel("e1").await.status, 200);
    assert_eq!(bench.sandbox.stripe().total("cus_north", "executions"), 7);
    assert_eq!(cancel("e9").await.status, 400);
    bench.sandbox.clock().advance(SignedDuration::from_hours(25));
    assert_eq!(cancel("e2").await.status, 400);
    assert_eq!(bench.sandbox.stripe().total("cus_north", "executions"), 7);
}

#[tokio::test]
async fn summaries_show_counted_events_after_their_delay() {
    let bench = bench().await;
    let stripe = bench.sandbox.stripe();
    let meter = stripe.add_meter("executions").unwrap();
    send_event(&bench, "e1", "5").await;
    let now = bench.sandbox.clock().now().as_second();
    let start = now - now.rem_euclid(3_600);
    let path = format!(
        "/billing/meters/{}/event_summaries?customer=cus_north&start_time={start}&end_time={}",
        meter.id,
        start + 7_200
    );
    let value = |answer: Answer| answer.json()["data"][0]["aggregated_value"].as_i64();
    assert_eq!(value(bench.stripe_get(&path).await), Some(5));
    stripe.set_summary_delay(SignedDuration::from_mins(10));
    assert_eq!(value(bench.stripe_get(&path).await), Some(0));
    bench.sandbox.clock().advance(SignedDuration::from_mins(11));
    assert_eq!(value(bench.stripe_get(&path).await), Some(5));
    let hourly = bench.stripe_get(&format!("{path}&value_grouping_window=hour")).await.json();
    assert_eq!(hourly["data"].as_array().map(Vec::len), Some(1));
    let crooked = path.replace(&format!("start_time={start}"), &format!("start_time={}", start + 1));
    assert_eq!(bench.stripe_get(&crooked).await.status, 400);
    let stranger = path.replace("cus_north", "cus_none");
    assert_eq!(bench.stripe_get(&stranger).await.status, 400);
}

#[tokio::test]
async fn an_event_replaces_the_value_of_a_windowed_meter() {
    let bench = Harness::new().await;
    let stripe = bench.sandbox.stripe();
    stripe.add_customer("cus_north").unwrap();
    stripe.add_meter_with("executions", |meter| meter.window = Some(Window::Hour)).unwrap();
    let now = bench.sandbox.clock().now().as_second();
    for (identifier, value) in [("v1", "5"), ("v2", "8")] {
        let form = format!("{}&timestamp={}", form(identifier, value), now - now.rem_euclid(3_600));
        assert_eq!(bench.stripe_post("/billing/meter_events", &form).await.status, 200);
    }
    assert_eq!(stripe.total("cus_north", "executions"), 8);
}

#[tokio::test]
async fn a_second_meter_of_the_same_name_is_refused() {
    let bench = bench().await;
    let form = "event_name=executions&display_name=Again&default_aggregation[formula]=sum";
    assert_eq!(bench.stripe_post("/billing/meters", form).await.status, 400);
    let listed = bench.stripe_get("/billing/meters").await.json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
}
