//! `deploy/nats/permissions.conf` grants what the contract says, and everything else is refused.

use std::{fmt::Write, time::Duration};

use async_nats::{
    Client, Request,
    jetstream::{self, consumer::pull},
};
use futures_util::{StreamExt, future::join_all};
use proto::{
    Namespace,
    consumers::{self, Consumer, LIVE_READERS},
    streams::{Capacity, ExecutionsBefore, Stream},
    subjects::Question,
};
use serde_json::{Value, json};
use stack::{Project, nats::Nats};

use crate::nats::{NO_ANSWER, QUESTIONS, connect, profile};

/// Set this variable to write the file instead of comparing it.
pub const WRITE: &str = "FLOWMETER_WRITE_PERMISSIONS";

const SERVICES: [&str; 5] = ["collector", "aggregator", "billing", "alerts", "gateway"];

/// A request that is allowed is answered within this time.
pub const ANSWER: Duration = Duration::from_secs(10);

const HEAD: &str = r#"# Who may publish and read what. Included by nats.conf beside it, and by the private broker of
# `cargo xtask up` and `cargo xtask test`, so that the same rules hold on a laptop and in production.
#
# Generated from the contract (proto/src/streams.rs, consumers.rs, subjects.rs): change it there, then run
# `FLOWMETER_WRITE_PERMISSIONS=1 cargo xtask test -p stack permissions`. A test compares the two.
#
# A service publishes its own subjects and its own dead letters, and reads with its own consumers only: answers come to
# its own inbox. It also reads the requests that it answers (proto/flowmeter/v1/ask.proto), and may answer each once.
# It creates missing streams that it needs, which changes no existing one, and updates the streams that it owns.
# It cannot touch another service's consumers or acknowledge for it, and can never delete, purge, restore or rewrite what a
# stream holds.
#
# Programs of your own have no rights here: `flowmeter subscriber` makes a user that reads chosen topics and nothing else.
# subscriber.conf beside this file is an example of one, generated in the same way.
#
# A live view of the gateway has consumers with generated names, so the durable consumers on the same stream are denied
# one by one.
#
# Flowmeter's namespace is the first token of every subject, and the prefix of every stream; an installation with another
# namespace replaces `flowmeter.v1` and `FLOWMETER_` below.
"#;

const OPERATOR: &str = r#"
# A person with the CLI: reads every topic, and publishes because a replayed dead letter goes to the subject it
# came from. A replayed letter is removed, so messages of that one stream may be deleted.
OPERATOR = {
  publish = [
    "flowmeter.v1.>"
    "$JS.ACK.>"
    "$JS.API.INFO"
    "$JS.API.STREAM.INFO.*"
    "$JS.API.STREAM.NAMES"
    "$JS.API.STREAM.LIST"
    "$JS.API.STREAM.MSG.GET.*"
    "$JS.API.DIRECT.GET.>"
    "$JS.API.CONSUMER.>"
    "$JS.API.STREAM.MSG.DELETE.FLOWMETER_DEAD"
  ]
  subscribe = ["flowmeter.v1.>", "_INBOX_operator.>"]
}
"#;

/// The topics that a service publishes, besides its dead letters and questions.
fn topics(service: &str) -> &'static [&'static str] {
    match service {
        "collector" => &["executions", "source"],
        "aggregator" => &["usage", "cloudevents", "source.contradicted"],
        "billing" => &["billing"],
        "gateway" => &["catalog", "admission"],
        _ => &[],
    }
}

fn expected() -> String {
    SERVICES.iter().fold(HEAD.to_owned(), |file, service| file + &rules(service)) + OPERATOR
}

fn rules(service: &str) -> String {
    let namespace = Namespace::default();
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for topic in topics(service) {
        allow.push(vec![format!("{namespace}.v1.{topic}.>")]);
    }
    for (question, _, askers) in QUESTIONS {
        if askers.contains(&service) {
            allow.push(vec![namespace.ask(question)]);
        }
    }
    allow.push(vec![namespace.dead(service)]);
    let api = |call: &str, rest: &str| format!("$JS.API.{call}.{rest}");
    for stream in Stream::needed_by(service) {
        let name = stream.name(&namespace);
        let mut line = vec![api("STREAM.INFO", &name), api("STREAM.CREATE", &name)];
        if stream.owner() == service {
            line.push(api("STREAM.UPDATE", &name));
            line.extend([api("DIRECT.GET", &name), api("DIRECT.GET", &format!("{name}.>"))]);
        }
        allow.push(line);
        for consumer in Consumer::all().filter(|consumer| consumer.stream == stream) {
            let place = format!("{name}.{}", consumer.name());
            let filter = consumer.filter(&namespace);
            let create = if filter.is_empty() { place.clone() } else { format!("{place}.{filter}") };
            let reads_live = LIVE_READERS.iter().any(|live| live.service == service && live.stream == stream);
            if consumer.service == service {
                allow.push(vec![
                    api("CONSUMER.CREATE", &create),
                    api("CONSUMER.INFO", &place),
                    api("CONSUMER.MSG.NEXT", &place),
                    format!("$JS.ACK.{place}.>"),
                ]);
            } else if reads_live {
                deny.push(vec![
                    api("CONSUMER.CREATE", &place),
                    api("CONSUMER.CREATE", &format!("{place}.>")),
                    api("CONSUMER.DELETE", &place),
                    api("CONSUMER.MSG.NEXT", &place),
                ]);
            }
        }
        let live = LIVE_READERS.iter().filter(|live| live.service == service && live.stream == stream);
        let filters: Vec<String> = live.map(|live| live.filter(&namespace)).collect();
        if !filters.is_empty() {
            let create = |filter: &String| api("CONSUMER.CREATE", &format!("{name}.*.{filter}"));
            allow.push(filters.iter().map(create).collect());
            let any = format!("{name}.*");
            let calls = ["CONSUMER.INFO", "CONSUMER.MSG.NEXT", "CONSUMER.DELETE"];
            allow.push(calls.into_iter().map(|call| api(call, &any)).collect());
        }
    }
    if Stream::needed_by(service).contains(&Stream::Executions(0)) {
        let before = ExecutionsBefore.name(&namespace);
        let mut line = vec![api("STREAM.INFO", &before)];
        if service == "collector" {
            line.push(api("STREAM.UPDATE", &before));
        }
        allow.push(line);
    }
    let mut subscribe = vec![format!("_INBOX_{service}.>")];
    let answered: Vec<Question> =
        QUESTIONS.iter().filter(|(_, answerer, _)| *answerer == service).map(|asked| asked.0).collect();
    subscribe.extend(answered.iter().map(|question| namespace.ask(*question)));
    let mut text = format!("\n{} = {{\n  publish = {{\n", service.to_ascii_uppercase());
    list(&mut text, "allow", &allow);
    if !deny.is_empty() {
        list(&mut text, "deny", &deny);
    }
    text.push_str("  }\n");
    let subscribe: Vec<String> = subscribe.iter().map(|subject| format!("\"{subject}\"")).collect();
    let _ = writeln!(text, "  subscribe = [{}]", subscribe.join(", "));
    if !answered.is_empty() {
        text.push_str("  allow_responses = true\n");
    }
    text + "}\n"
}

fn list(text: &mut String, name: &str, lines: &[Vec<String>]) {
    let _ = writeln!(text, "    {name} = [");
    for line in lines {
        let quoted: Vec<String> = line.iter().map(|subject| format!("\"{subject}\"")).collect();
        let _ = writeln!(text, "      {}", quoted.join(", "));
    }
    text.push_str("    ]\n");
}

#[test]
fn the_permissions_match_the_contract() {
    let file = Project::find().unwrap().root().join("deploy/nats/permissions.conf");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, expected()).unwrap();
    }
    let (found, wanted) = (std::fs::read_to_string(&file).unwrap(), expected());
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert_eq!(differs, None, "run this test with {WRITE}=1");
    assert_eq!(found.len(), wanted.len(), "run this test with {WRITE}=1");
}

/// Whether the broker accepts the user's request and carries it out.
pub async fn does(client: &Client, subject: String, body: &Value, within: Duration) -> bool {
    let request = Request::new().payload(body.to_string().into()).timeout(Some(within));
    match client.send_request(subject, request).await {
        Ok(answer) => {
            serde_json::from_slice::<Value>(&answer.payload).is_ok_and(|said| said["error"].is_null())
        }
        Err(_) => false,
    }
}

pub async fn create_streams(nats: &Nats) {
    let context = jetstream::new(connect(nats, stack::nats::ADMIN).await);
    for stream in Stream::all() {
        context.create_stream(stream.config(&Namespace::default(), Capacity::default())).await.unwrap();
    }
}

pub async fn create_consumers(nats: &Nats) {
    let context = jetstream::new(connect(nats, stack::nats::ADMIN).await);
    let namespace = Namespace::default();
    for consumer in Consumer::all() {
        let stream = context.get_stream_no_info(consumer.stream.name(&namespace)).await.unwrap();
        stream.create_consumer(consumer.config(&namespace)).await.unwrap();
    }
}

/// Everything that only one service may do to a stream or a consumer: who, and the request.
pub fn calls() -> Vec<(&'static str, String, Value)> {
    let namespace = Namespace::default();
    let mut calls = Vec::new();
    for stream in Stream::all() {
        let name = stream.name(&namespace);
        let config = serde_json::to_value(stream.config(&namespace, Capacity::default())).unwrap();
        calls.push((stream.owner(), format!("$JS.API.STREAM.UPDATE.{name}"), config));
        for call in
            ["STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE"]
        {
            calls.push(("nobody", format!("$JS.API.{call}.{name}"), json!({ "seq": 1 })));
        }
    }
    for consumer in Consumer::all() {
        let stream = consumer.stream.name(&namespace);
        let place = format!("{stream}.{}", consumer.name());
        let filter = consumer.filter(&namespace);
        let create = if filter.is_empty() { place.clone() } else { format!("{place}.{filter}") };
        // As its owner sends it: from another user, it would change a foreign consumer.
        let config = consumer.config(&namespace);
        let body = json!({
            "stream_name": stream,
            "config": jetstream::consumer::IntoConsumerConfig::into_consumer_config(config),
        });
        calls.push((consumer.service, format!("$JS.API.CONSUMER.CREATE.{create}"), body));
        calls.push(("nobody", format!("$JS.API.CONSUMER.DELETE.{place}"), json!({})));
        calls.push((
            "nobody",
            format!("$JS.API.CONSUMER.PAUSE.{place}"),
            json!({ "pause_until": "2999-01-01T00:00:00Z" }),
        ));
    }
    calls
}

#[tokio::test]
async fn a_service_changes_no_stream_or_consumer_but_its_own() {
    let profile = profile("nats-foreign");
    let mut nats = Nats::start(&profile).unwrap();
    create_streams(&nats).await;
    create_consumers(&nats).await;
    let calls = calls();
    for user in SERVICES {
        let client = connect(&nats, user).await;
        let own = calls.iter().filter(|(owner, ..)| *owner == user);
        let done =
            join_all(own.map(async |(_, subject, body)| {
                (subject, does(&client, subject.clone(), body, ANSWER).await)
            }));
        for (subject, done) in done.await {
            assert!(done, "{user} may not {subject}");
        }
        let foreign = calls.iter().filter(|(owner, ..)| *owner != user);
        // Together: each denial takes the whole time-out.
        let done = join_all(foreign.map(async |(_, subject, body)| {
            (subject, does(&client, subject.clone(), body, NO_ANSWER).await)
        }));
        for (subject, done) in done.await {
            assert!(!done, "{user} may {subject}");
        }
    }
    nats.stop().unwrap();
}

#[tokio::test]
async fn a_service_reads_what_it_needs_and_no_other_stream() {
    let profile = profile("nats-reading");
    let mut nats = Nats::start(&profile).unwrap();
    create_streams(&nats).await;
    let namespace = Namespace::default();
    for user in SERVICES {
        let client = connect(&nats, user).await;
        let tries = Stream::all().map(async |stream| {
            let name = stream.name(&namespace);
            let filter = stream.config(&namespace, Capacity::default()).subjects.remove(0);
            let body = json!({
                "stream_name": name,
                "config": { "name": "spy", "ack_policy": "none", "mem_storage": true, "filter_subject": filter },
            });
            let created = does(&client, format!("$JS.API.CONSUMER.CREATE.{name}.spy.{filter}"), &body, NO_ANSWER);
            let plain = json!({ "stream_name": name, "config": { "name": "spy2", "ack_policy": "none" } });
            let whole = does(&client, format!("$JS.API.CONSUMER.CREATE.{name}.spy2"), &plain, NO_ANSWER);
            let first = json!({ "seq": 1 });
            let got = does(&client, format!("$JS.API.STREAM.MSG.GET.{name}"), &first, NO_ANSWER);
            let (created, whole, got) = tokio::join!(created, whole, got);
            (stream, created, whole || got)
        });
        for (stream, created, other) in join_all(tries).await {
            let live = LIVE_READERS.iter().any(|live| live.service == user && live.stream == stream);
            assert_eq!(created, live, "{user} reading {stream:?} with a consumer of any name");
            assert!(!other, "{user} reading {stream:?}");
        }
        // As the services do it.
        let context = jetstream::new(client);
        for live in LIVE_READERS.iter().filter(|live| live.service == user) {
            let stream = context.get_stream(live.stream.name(&namespace)).await.unwrap();
            let reader = stream.create_consumer(consumers::live(&namespace, live.topic)).await.unwrap();
            drop(reader.messages().await.unwrap());
        }
    }
    nats.stop().unwrap();
}

#[tokio::test]
async fn no_service_reads_or_acknowledges_for_another() {
    let profile = profile("nats-acknowledge");
    let mut nats = Nats::start(&profile).unwrap();
    create_streams(&nats).await;
    create_consumers(&nats).await;
    let namespace = Namespace::default();
    let aggregator = jetstream::new(connect(&nats, "aggregator").await);
    let sent = aggregator.publish(namespace.usage_counted("north"), "x".into()).await.unwrap();
    sent.await.unwrap();

    let consumer = Consumer::BILLING_USAGE;
    let billing = jetstream::new(connect(&nats, "billing").await);
    let open = async || {
        let stream = billing.get_stream(consumer.stream.name(&namespace)).await.unwrap();
        stream.create_consumer(consumer.config(&namespace)).await.unwrap()
    };
    // Services with other consumers on the stream try first.
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream.name(&namespace), consumer.name());
    for user in SERVICES.into_iter().filter(|user| *user != "billing") {
        let client = connect(&nats, user).await;
        let mut inbox = client.subscribe(format!("_INBOX_{user}.stolen")).await.unwrap();
        client.publish_with_reply(next.clone(), format!("_INBOX_{user}.stolen"), "1".into()).await.unwrap();
        client.flush().await.unwrap();
        let stolen = tokio::time::timeout(NO_ANSWER, inbox.next()).await;
        assert!(stolen.is_err(), "{user} has taken a message of billing's");
    }
    let mut puller: jetstream::consumer::Consumer<pull::Config> = open().await;
    let mut messages = puller.fetch().max_messages(1).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    let reply = message.message.reply.clone().unwrap();
    for user in SERVICES.into_iter().filter(|user| *user != "billing") {
        let client = connect(&nats, user).await;
        let request = Request::new().payload("+ACK".into()).timeout(Some(NO_ANSWER));
        assert!(client.send_request(reply.clone(), request).await.is_err(), "{user} has acknowledged");
    }
    assert_eq!(puller.info().await.unwrap().num_ack_pending, 1);
    message.double_ack().await.unwrap();
    assert_eq!(puller.info().await.unwrap().num_ack_pending, 0);
    nats.stop().unwrap();
}
