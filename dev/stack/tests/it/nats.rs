//! A private NATS with the permissions of production.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Message, Request, Subscriber, jetstream};
use futures_util::{StreamExt, future::join_all};
use proto::{
    Namespace,
    streams::{Capacity, Stream},
    subjects::{CatalogKind, Question},
};
use stack::{Profile, Project, nats::Nats};

/// A denied request is never answered; the broker only sends the client an error.
pub const NO_ANSWER: Duration = Duration::from_millis(500);

/// Enough for a slow machine.
const ATTEMPTS_MAX: u32 = 20;

pub fn profile(name: &str) -> Profile {
    Profile::fresh(&Project::find().unwrap(), &format!("it/{name}")).unwrap()
}

pub async fn connect(nats: &Nats, user: &str) -> Client {
    ConnectOptions::with_user_and_password(user.to_owned(), nats.password(user).to_owned())
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .connect(nats.url())
        .await
        .unwrap()
}

fn impatient(client: &Client) -> jetstream::Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(NO_ANSWER);
    context
}

pub async fn publish(client: &Client, subject: String) -> bool {
    match impatient(client).publish(subject, "x".into()).await {
        Ok(acknowledged) => acknowledged.await.is_ok(),
        Err(_) => false,
    }
}

async fn create_streams(nats: &Nats) {
    // Each user creates its own, as the services do at their start.
    for user in ["collector", "aggregator", "billing", "alerts", "gateway"] {
        let context = jetstream::new(connect(nats, user).await);
        for stream in Stream::needed_by(user) {
            context
                .get_or_create_stream(stream.config(&Namespace::default(), Capacity::default()))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn each_user_publishes_its_own_subjects_only() {
    let profile = profile("nats-permissions");
    let mut nats = Nats::start(&profile).unwrap();
    create_streams(&nats).await;
    let flowmeter = Namespace::default();
    let subjects = [
        ("collector", flowmeter.executions("north-n8n")),
        ("collector", flowmeter.source_synced("north-n8n")),
        ("collector", flowmeter.source_failing("north-n8n")),
        ("collector", flowmeter.source_gap("north-n8n")),
        ("collector", flowmeter.source_audit("north-n8n")),
        ("aggregator", flowmeter.usage_counted("north")),
        ("aggregator", flowmeter.usage_threshold("north")),
        ("aggregator", flowmeter.usage_period("north")),
        ("aggregator", flowmeter.cloud_threshold("north")),
        ("aggregator", flowmeter.cloud_period("north")),
        ("billing", flowmeter.billing("north")),
        ("gateway", flowmeter.catalog(CatalogKind::Source, "north-n8n")),
        ("gateway", flowmeter.admission("north")),
        ("collector", flowmeter.dead("collector")),
        ("aggregator", flowmeter.dead("aggregator")),
        ("billing", flowmeter.dead("billing")),
        ("alerts", flowmeter.dead("alerts")),
        ("gateway", flowmeter.dead("gateway")),
    ];
    for user in ["collector", "aggregator", "billing", "alerts", "gateway"] {
        let client = connect(&nats, user).await;
        // Together: each denial takes the whole time-out.
        let accepted = join_all(subjects.iter().map(|(_, subject)| publish(&client, subject.clone()))).await;
        for ((owner, subject), accepted) in subjects.iter().zip(accepted) {
            assert_eq!(accepted, user == *owner, "{user} publishing {subject}");
        }
    }
    let operator = connect(&nats, "operator").await;
    for (_, subject) in subjects {
        assert!(publish(&operator, subject.clone()).await, "operator publishing {subject}");
    }
    nats.stop().unwrap();
}

#[tokio::test]
async fn only_the_administrator_removes_messages_and_the_operator_dead_letters() {
    let profile = profile("nats-streams");
    let mut nats = Nats::start(&profile).unwrap();
    create_streams(&nats).await;
    let name = Stream::Dead.name(&Namespace::default());
    for user in stack::nats::USERS.into_iter().filter(|user| *user != "operator") {
        let context = impatient(&connect(&nats, user).await);
        let stream = context.get_stream(&name).await.expect("the stream of dead letters exists");
        assert!(stream.purge().await.is_err(), "{user} purged");
        assert!(stream.delete_message(1).await.is_err(), "{user} deleted a message");
        assert!(context.delete_stream(&name).await.is_err(), "{user} deleted a stream");
    }
    let operator = connect(&nats, "operator").await;
    assert!(publish(&operator, Namespace::default().dead("alerts")).await);
    assert!(publish(&operator, Namespace::default().billing("north")).await);
    let removes_from = async |stream: Stream| {
        let context = impatient(&operator);
        let stream = context.get_stream(stream.name(&Namespace::default())).await.unwrap();
        stream.delete_message(1).await.is_ok()
    };
    assert!(removes_from(Stream::Dead).await, "a replayed letter is removed");
    assert!(!removes_from(Stream::Billing).await);

    let admin = impatient(&connect(&nats, stack::nats::ADMIN).await);
    admin.delete_stream(&name).await.unwrap();
    nats.stop().unwrap();
}

#[tokio::test]
async fn an_inbox_is_read_by_its_owner_only() {
    let profile = profile("nats-inbox");
    let mut nats = Nats::start(&profile).unwrap();
    let admin = connect(&nats, stack::nats::ADMIN).await;
    let gateway = connect(&nats, "gateway").await;
    let mut own = gateway.subscribe("_INBOX_gateway.test").await.unwrap();
    let mut foreign = gateway.subscribe("_INBOX_collector.test").await.unwrap();
    // Repeated: a client does not learn when the broker knows its subscription.
    let mut heard = None;
    for _ in 0..ATTEMPTS_MAX {
        admin.publish("_INBOX_collector.test", "x".into()).await.unwrap();
        admin.publish("_INBOX_gateway.test", "x".into()).await.unwrap();
        heard = next_of(&mut own).await;
        if heard.is_some() {
            break;
        }
    }
    assert!(heard.is_some(), "its own inbox is readable");
    assert!(next_of(&mut foreign).await.is_none());
    nats.stop().unwrap();
}

/// Each question, who answers it and who asks it.
pub const QUESTIONS: [(Question, &str, &[&str]); 11] = [
    (Question::Admission, "gateway", &[]),
    (Question::Audit, "collector", &["gateway"]),
    (Question::Sweep, "collector", &["gateway"]),
    (Question::Placement, "collector", &["gateway"]),
    (Question::Recorded, "aggregator", &["collector", "gateway"]),
    (Question::Usage, "aggregator", &["gateway"]),
    (Question::Workflows, "aggregator", &["gateway"]),
    (Question::Explain, "aggregator", &["gateway"]),
    (Question::Correct, "aggregator", &["gateway"]),
    (Question::EndPeriod, "aggregator", &["gateway"]),
    (Question::Unmapped, "aggregator", &["gateway"]),
];

#[tokio::test]
async fn only_permitted_services_ask_and_answer_each_request() {
    let profile = profile("nats-questions");
    let mut nats = Nats::start(&profile).unwrap();
    let mut clients = Vec::new();
    for user in ["collector", "aggregator", "billing", "alerts", "gateway"] {
        clients.push((user, connect(&nats, user).await));
    }
    let operator = connect(&nats, "operator").await;
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    for (question, _, _) in QUESTIONS {
        let subject = Namespace::default().ask(question);
        for (user, client) in &clients {
            let mut questions = client.subscribe(subject.clone()).await.unwrap();
            let (user, client, heard) = (*user, client.clone(), heard.clone());
            tokio::spawn(async move {
                while let Some(message) = questions.next().await {
                    heard.lock().unwrap().insert((question, user));
                    client.publish(message.reply.unwrap(), "x".into()).await.unwrap();
                }
            });
        }
        // The operator may ask everything: once it has an answer, the subscriptions are active.
        let mut answered = false;
        for _ in 0..ATTEMPTS_MAX {
            answered = is_answered(&operator, &subject).await;
            if answered {
                break;
            }
        }
        assert!(answered, "{subject} is answered");
    }
    for (question, _, askers) in QUESTIONS {
        let subject = Namespace::default().ask(question);
        let answered = join_all(clients.iter().map(|(_, client)| is_answered(client, &subject))).await;
        for ((user, _), answered) in clients.iter().zip(answered) {
            assert_eq!(answered, askers.contains(user), "{user} asking {subject}");
        }
    }
    let expected: BTreeSet<_> =
        QUESTIONS.iter().map(|(question, answerer, _)| (*question, *answerer)).collect();
    assert_eq!(*heard.lock().unwrap(), expected);
    nats.stop().unwrap();
}

async fn is_answered(client: &Client, subject: &str) -> bool {
    let request = Request::new().payload("x".into()).timeout(Some(NO_ANSWER));
    client.send_request(subject.to_owned(), request).await.is_ok()
}

async fn next_of(subscription: &mut Subscriber) -> Option<Message> {
    tokio::time::timeout(NO_ANSWER, subscription.next()).await.ok().flatten()
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_message() {
    let profile = profile("nats-kill");
    let mut nats = Nats::start(&profile).unwrap();
    create_streams(&nats).await;
    let client = connect(&nats, "billing").await;
    assert!(publish(&client, Namespace::default().billing("north")).await);

    nats.process().kill().unwrap();
    nats.restart(&profile).unwrap();

    let context = jetstream::new(connect(&nats, "billing").await);
    let mut stream = context.get_stream(Stream::Billing.name(&Namespace::default())).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    nats.stop().unwrap();
}
