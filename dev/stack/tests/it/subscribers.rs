//! A user that `proto::subscribers` makes reads its topics with its own consumers, and everything else is refused.

use std::{collections::BTreeSet, iter, time::Duration};

use async_nats::{
    Client, ConnectOptions, Request,
    jetstream::{self, consumer::pull},
};
use futures_util::{StreamExt, future::join_all};
use proto::{
    Namespace,
    streams::{Capacity, Stream},
    subjects::{CatalogKind, Question},
    subscribers::{Subscriber, Topic},
};
use serde_json::{Value, json};
use stack::{Project, nats::Nats};

use crate::{
    nats::{NO_ANSWER, connect, profile, publish},
    permissions::{ANSWER, WRITE, calls, create_consumers, create_streams, does},
};

/// Of every user in this file.
const PASSWORD: &str = "sub_for_tests";

/// What the user of most tests may read.
const TOPICS: [Topic; 3] = [Topic::Usage, Topic::Thresholds, Topic::Periods];

const HEAD: &str = r#"# An example of a user that only reads: what `flowmeter subscriber books --topics usage,thresholds,periods` prints, with a
# password in place of its bcrypt hash. It is an element of `users` in nats.conf; no configuration includes this file.
#
# It asks about the streams of its topics, creates and reads one durable consumer on each, named like itself, and
# acknowledges what that consumer delivers. It publishes no message of Flowmeter's and receives nothing but its answers.
#
# Generated from the contract (proto/src/subscribers.rs): change it there, then run
# `FLOWMETER_WRITE_PERMISSIONS=1 cargo xtask test -p stack the_example`. A test compares the two.

"#;

fn subscriber(name: &str) -> Subscriber {
    Subscriber::parse(name).unwrap()
}

/// A broker with the services' streams and consumers, and with these users.
async fn broker(name: &str, users: &[(&str, &[Topic])]) -> Nats {
    let mut nats = Nats::start(&profile(name)).unwrap();
    create_streams(&nats).await;
    create_consumers(&nats).await;
    let users =
        users.iter().map(|(name, topics)| subscriber(name).user(&Namespace::default(), topics, PASSWORD));
    nats.add_users(&users.collect::<String>()).unwrap();
    nats
}

async fn connect_as(nats: &Nats, name: &str) -> Client {
    ConnectOptions::with_user_and_password(name.to_owned(), PASSWORD.to_owned())
        .custom_inbox_prefix(subscriber(name).inbox_prefix())
        .connect(nats.url())
        .await
        .unwrap()
}

fn own(name: &str) -> pull::Config {
    pull::Config { durable_name: Some(name.to_owned()), ..pull::Config::default() }
}

/// A subject of each stream.
fn subject_of(stream: Stream) -> String {
    let subjects = stream.config(&Namespace::default(), Capacity::default()).subjects;
    subjects[0].replace('>', "north")
}

#[test]
fn the_example_of_a_subscriber_matches_the_contract() {
    let file = Project::find().unwrap().root().join("deploy/nats/subscriber.conf");
    let user = subscriber("books").user(&Namespace::default(), &TOPICS, "...");
    let wanted = format!("{HEAD}{user}");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted, "run this test with {WRITE}=1");
}

#[tokio::test]
async fn a_subscriber_reads_each_of_its_topics() {
    let mut nats = broker("subscriber-reads", &[("books", &Topic::ALL)]).await;
    let (client, namespace) = (connect_as(&nats, "books").await, Namespace::default());
    let admin = jetstream::new(connect(&nats, stack::nats::ADMIN).await);
    let context = jetstream::new(client.clone());
    for stream in Topic::ALL.into_iter().flat_map(Topic::streams) {
        let subject = subject_of(stream);
        admin.publish(subject.clone(), "x".into()).await.unwrap().await.unwrap();
        let stream = context.get_stream(stream.name(&namespace)).await.unwrap();
        let filtered = pull::Config { filter_subject: subject.clone(), ..own("books") };
        for config in [own("books"), filtered] {
            // The second one changes the first, as a subscriber that begins to filter does.
            let mut consumer = stream.create_consumer(config).await.unwrap();
            if consumer.info().await.unwrap().num_pending > 0 {
                let mut messages = consumer.fetch().max_messages(1).messages().await.unwrap();
                messages.next().await.unwrap().unwrap().double_ack().await.unwrap();
            }
            let info = consumer.info().await.unwrap();
            assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending), (1, 0), "{subject}");
        }
    }
    nats.stop().unwrap();
}

#[tokio::test]
async fn a_subscriber_publishes_nothing() {
    let mut nats = broker("subscriber-publishes", &[("books", &Topic::ALL)]).await;
    let (client, namespace) = (connect_as(&nats, "books").await, Namespace::default());
    let mut subjects: Vec<String> = Stream::all().map(subject_of).collect();
    subjects.push(namespace.catalog(CatalogKind::Tenant, "north"));
    subjects.extend(["collector", "gateway"].map(|service| namespace.dead(service)));
    let published = join_all(subjects.iter().map(|subject| publish(&client, subject.clone()))).await;
    for (subject, published) in subjects.iter().zip(published) {
        assert!(!published, "published {subject}");
    }
    // A question would be answered by whoever listens.
    let admin = connect(&nats, stack::nats::ADMIN).await;
    let mut asked = admin.subscribe(namespace.ask(Question::Correct)).await.unwrap();
    admin.flush().await.unwrap();
    client.publish(namespace.ask(Question::Correct), "x".into()).await.unwrap();
    client.flush().await.unwrap();
    assert!(tokio::time::timeout(NO_ANSWER, asked.next()).await.is_err(), "a question was asked");
    nats.stop().unwrap();
}

#[tokio::test]
async fn a_subscriber_changes_and_reads_nothing_of_others() {
    let users: [(&str, &[Topic]); 2] = [("books", &TOPICS), ("shop", &Topic::ALL)];
    let mut nats = broker("subscriber-foreign", &users).await;
    let namespace = Namespace::default();
    let shop = jetstream::new(connect_as(&nats, "shop").await);
    for stream in TOPICS.into_iter().flat_map(Topic::streams) {
        let stream = shop.get_stream(stream.name(&namespace)).await.unwrap();
        stream.create_consumer(own("shop")).await.unwrap();
    }
    let mut foreign: Vec<(String, Value)> =
        calls().into_iter().map(|(_, subject, body)| (subject, body)).collect();
    for call in ["INFO", "STREAM.NAMES", "STREAM.LIST", "ACCOUNT.PURGE.$G"] {
        foreign.push((format!("$JS.API.{call}"), json!({})));
    }
    let readable: BTreeSet<String> =
        TOPICS.into_iter().flat_map(Topic::streams).map(|stream| stream.name(&namespace)).collect();
    for stream in Stream::all() {
        let (subject, name) = (subject_of(stream), stream.name(&namespace));
        let config = serde_json::to_value(stream.config(&namespace, Capacity::default())).unwrap();
        foreign.push((format!("$JS.API.STREAM.CREATE.{name}"), config));
        foreign.push((format!("$JS.API.STREAM.MSG.GET.{name}"), json!({ "seq": 1 })));
        foreign.push((format!("$JS.API.DIRECT.GET.{name}"), json!({ "seq": 1 })));
        foreign.push((format!("$JS.API.DIRECT.GET.{name}.{subject}"), json!({})));
        for call in ["NAMES", "LIST"] {
            foreign.push((format!("$JS.API.CONSUMER.{call}.{name}"), json!({})));
        }
        if !readable.contains(&name) {
            foreign.push((format!("$JS.API.STREAM.INFO.{name}"), json!({})));
        }
        // Its own name on a stream that it may not read, and other names on those that it may.
        let names =
            ["spy", "shop", "books-2"].into_iter().chain((!readable.contains(&name)).then_some("books"));
        for consumer in names {
            let place = format!("{name}.{consumer}");
            let body = json!({ "stream_name": name, "config": { "durable_name": consumer, "ack_policy": "explicit" } });
            foreign.push((format!("$JS.API.CONSUMER.CREATE.{place}"), body.clone()));
            foreign.push((format!("$JS.API.CONSUMER.CREATE.{place}.{subject}"), body.clone()));
            foreign.push((format!("$JS.API.CONSUMER.DURABLE.CREATE.{place}"), body));
            foreign.push((format!("$JS.API.CONSUMER.INFO.{place}"), json!({})));
            foreign.push((format!("$JS.API.CONSUMER.DELETE.{place}"), json!({})));
        }
        // Without a name in the subject, the broker would take any from the body.
        let body = json!({ "stream_name": name, "config": { "ack_policy": "none" } });
        foreign.push((format!("$JS.API.CONSUMER.CREATE.{name}"), body));
        // Under its own name, but for another consumer.
        let body =
            json!({ "stream_name": name, "config": { "durable_name": "shop", "ack_policy": "explicit" } });
        foreign.push((format!("$JS.API.CONSUMER.CREATE.{name}.books"), body));
    }
    let client = connect_as(&nats, "books").await;
    let done =
        join_all(foreign.iter().map(|(subject, body)| does(&client, subject.clone(), body, NO_ANSWER))).await;
    for ((subject, _), done) in foreign.iter().zip(done) {
        assert!(!done, "books may {subject}");
    }
    // The other one's consumers are as they were.
    for name in &readable {
        let stream = shop.get_stream(name).await.unwrap();
        let mut consumer = stream.get_consumer::<pull::Config>("shop").await.unwrap();
        assert_eq!(consumer.info().await.unwrap().config.filter_subject, "");
    }
    nats.stop().unwrap();
}

#[tokio::test]
async fn a_subscriber_takes_and_acknowledges_no_message_of_another() {
    let mut nats = broker("subscriber-steals", &[("books", &TOPICS), ("shop", &TOPICS)]).await;
    let namespace = Namespace::default();
    let admin = jetstream::new(connect(&nats, stack::nats::ADMIN).await);
    admin.publish(namespace.usage_threshold("north"), "x".into()).await.unwrap().await.unwrap();
    let name = Stream::Thresholds.name(&namespace);
    let shop = jetstream::new(connect_as(&nats, "shop").await);
    let mut consumer = shop.get_stream(&name).await.unwrap().create_consumer(own("shop")).await.unwrap();
    let books = connect_as(&nats, "books").await;
    for foreign in ["shop", "alerts-thresholds"] {
        let mut inbox = books.subscribe("_INBOX_books.stolen").await.unwrap();
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{name}.{foreign}");
        books.publish_with_reply(next, "_INBOX_books.stolen", "1".into()).await.unwrap();
        books.flush().await.unwrap();
        let stolen = tokio::time::timeout(NO_ANSWER, inbox.next()).await;
        assert!(stolen.is_err(), "books has taken a message of {foreign}");
    }
    let mut messages = consumer.fetch().max_messages(1).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    let request = Request::new().payload("+ACK".into()).timeout(Some(NO_ANSWER));
    let acknowledged = books.send_request(message.message.reply.clone().unwrap(), request).await;
    assert!(acknowledged.is_err(), "books has acknowledged");
    assert_eq!(consumer.info().await.unwrap().num_ack_pending, 1);
    nats.stop().unwrap();
}

#[tokio::test]
async fn a_subscriber_hears_nothing_but_its_own_answers() {
    let mut nats = broker("subscriber-hears", &[("books", &TOPICS), ("shop", &TOPICS)]).await;
    let books = connect_as(&nats, "books").await;
    let mut heard = Vec::new();
    for subject in ["flowmeter.v1.>", ">", "_INBOX_shop.>", "_INBOX_gateway.>", "$JS.API.>", "$JS.EVENT.>"] {
        heard.push((subject, books.subscribe(subject).await.unwrap()));
    }
    let mut own = books.subscribe("_INBOX_books.test").await.unwrap();
    books.flush().await.unwrap();
    let admin = connect(&nats, stack::nats::ADMIN).await;
    let subjects = Stream::all().map(subject_of).chain(iter::once("_INBOX_shop.test".to_owned()));
    for subject in subjects.chain(["_INBOX_gateway.test".to_owned(), "_INBOX_books.test".to_owned()]) {
        admin.publish(subject, "x".into()).await.unwrap();
    }
    // Published last, on the same connection: whatever else it may hear has arrived before.
    tokio::time::timeout(ANSWER, own.next()).await.unwrap().unwrap();
    for (subject, mut subscription) in heard {
        let next = tokio::time::timeout(Duration::ZERO, subscription.next()).await;
        assert!(!matches!(next, Ok(Some(_))), "books hears {subject}");
    }
    nats.stop().unwrap();
}

#[tokio::test]
async fn a_password_is_accepted_by_its_hash_only() {
    let profile = profile("subscriber-hash");
    let mut nats = Nats::start(&profile).unwrap();
    // Of `sub_for_tests`, as `flowmeter subscriber` makes it.
    let hash = "$2b$04$9R4cf2UT/R0ZCcmq.UI/ye4r.KpgBs8yUoTqOIWGgIHKlg8f04VEO";
    nats.add_users(&subscriber("books").user(&Namespace::default(), &TOPICS, hash)).unwrap();
    connect_as(&nats, "books").await;
    let wrong = ConnectOptions::with_user_and_password("books".to_owned(), hash.to_owned());
    assert!(wrong.connect(nats.url()).await.is_err(), "the hash is no password");
    nats.stop().unwrap();
}
