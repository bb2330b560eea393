//! Services that start before their database and broker, and that may do no more than they need.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::json;
use stack::{
    Api, Backing, Profile, Program, Project, Proxy, Stack,
    backing::Broker,
    database,
    nats::{self, Nats},
    services::{self, Options},
    wait,
};

use crate::harness::{CUSTOMER, Harness, METER, Runs, SOURCE, TENANT};

/// Longer than a service's pause between two attempts, plus a start of all of them on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// The port in `scheme://user@host:port/path`.
fn port_of(url: &str) -> u16 {
    let (_, rest) = url.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    authority.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// The answers of `/healthz` and `/readyz` of a service.
fn health(bench: &Harness, program: Program) -> Option<(u16, u16, String)> {
    let api = Api::new(&bench.stack.ops_url(program).unwrap());
    let (alive, _) = api.try_get("/healthz").ok()?;
    let (ready, said) = api.try_get("/readyz").ok()?;
    Some((alive, ready, said))
}

fn await_waiting(bench: &mut Harness, program: Program, for_what: &str) {
    let what = format!("{} to wait for {for_what}", program.name());
    wait::until(&what, SOON, || {
        if let Some(status) = bench.stack.process(program)?.ended()? {
            return Err(bench.stack.process(program)?.obituary(status));
        }
        let is_waiting = health(bench, program)
            .is_some_and(|(alive, ready, said)| (alive, ready) == (200, 503) && said.contains(for_what));
        Ok(is_waiting.then_some(()))
    })
    .unwrap();
}

/// All services start while the database and the broker are down: each reports which one it waits for, and becomes ready by
/// itself once both are up.
#[test]
fn services_wait_for_the_database_and_the_broker() {
    let (database_url, nats_url) = (required("DATABASE_URL"), required("NATS_URL"));
    let database_way = Proxy::start(port_of(&database_url)).unwrap();
    let broker_way = Proxy::start(port_of(&nats_url)).unwrap();
    database_way.refuse();
    broker_way.refuse();
    let mut bench = Harness::start_some("away", &[], |mut options| {
        let detour = options.backing.through(database_way.port(), &[broker_way.port()]);
        options.detours = Program::SERVICES.into_iter().map(|program| (program, detour.clone())).collect();
        options
    });
    for program in Program::SERVICES {
        bench.stack.relaunch(program).unwrap();
    }
    for program in Program::SERVICES {
        await_waiting(&mut bench, program, "waiting for the database");
    }
    // A waiting service that is asked to stop ends at once and without an error.
    bench.stack.process(Program::Billing).unwrap().ask_to_stop().unwrap();
    let ended = wait::until("billing to end", Duration::from_secs(10), || {
        bench.stack.process(Program::Billing)?.ended()
    });
    assert!(ended.unwrap().success());
    bench.stack.relaunch(Program::Billing).unwrap();

    let pids: BTreeMap<_, _> =
        bench.stack.processes().map(|(replica, process)| (replica, process.pid())).collect();
    database_way.open();
    for program in Program::SERVICES {
        await_waiting(&mut bench, program, "waiting for the broker");
    }
    broker_way.open();
    for program in Program::SERVICES {
        let what = format!("{} to be ready", program.name());
        wait::until(&what, SOON, || {
            Ok(health(&bench, program).filter(|(alive, ready, _)| (*alive, *ready) == (200, 200)))
        })
        .unwrap();
    }
    let now: BTreeMap<_, _> =
        bench.stack.processes().map(|(replica, process)| (replica, process.pid())).collect();
    assert_eq!(now, pids);
    let dead: Vec<_> = bench.stack.find_dead().unwrap().into_iter().map(|(_, error)| error).collect();
    assert!(dead.is_empty(), "{dead:?}");
    bench.finish();
}

/// A broker that leaves the network refuses nothing and answers nothing. The services notice, and use another one.
#[test]
fn a_broker_that_leaves_the_network_is_replaced_by_another_within_a_minute() {
    let nats_url = required("NATS_URL");
    let ways = [(); 2].map(|()| Proxy::start(port_of(&nats_url)).unwrap());
    let (address, port) = nats_url.rsplit_once(':').unwrap();
    assert!(port.parse::<u16>().is_ok(), "{port}");
    let urls = ways.each_ref().map(|way| format!("{address}:{}", way.port())).join(",");
    let mut bench =
        Harness::start_some("silent-broker", &Program::SERVICES, |options| options.with("NATS__URL", &urls));
    bench.gateway().put("/v1/plans/start", &json!({ "name": "Start" })).unwrap();
    bench
        .gateway()
        .put(&format!("/v1/tenants/{TENANT}"), &json!({ "name": TENANT, "plan": "start" }))
        .unwrap();
    bench.put_n8n(SOURCE, TENANT);
    let mut ran = 0;
    for way in &ways {
        way.stall();
        ran += 20;
        bench.run(SOURCE, Runs::good(20));
        // Fails after a minute.
        assert_eq!(bench.await_counted(TENANT, ran), ran);
        way.open();
    }
    assert!(bench.stack.find_dead().unwrap().is_empty());
    bench.finish();
}

/// A service does not wait on a wrong configuration: it exits with the reason.
#[test]
fn a_wrong_configuration_ends_a_service_at_once() {
    let unreadable = |options: Options| options.with("DATABASE__URL", "postgres://u:a#b@127.0.0.1/flowmeter");
    ends_at_once("wrong", unreadable, "percent-encode");
}

/// Nor does it wait on a login that the server refuses.
#[test]
fn a_refused_login_ends_a_service_at_once() {
    let port = port_of(&required("DATABASE_URL"));
    let database = format!("postgres://nobody-of-this-name@127.0.0.1:{port}/flowmeter");
    ends_at_once("login", |options| options.with("DATABASE__URL", &database), "nobody-of-this-name");
    let broker = |options: Options| options.with("NATS__USER", "nobody").with("NATS__PASSWORD", "wrong");
    ends_at_once("login-nats", broker, "authorization violation");
}

fn ends_at_once(test: &str, change: impl FnOnce(Options) -> Options, reason: &str) {
    let mut bench = Harness::start_some(test, &[], change);
    bench.stack.relaunch(Program::Alerts).unwrap();
    let ended = wait::until("alerts to end", SOON, || bench.stack.process(Program::Alerts)?.ended()).unwrap();
    assert!(!ended.success());
    let said = bench.stack.process(Program::Alerts).unwrap().obituary(ended).to_string();
    assert!(said.contains(reason), "{said}");
    bench.finish();
}

/// The whole stack on a broker with the permissions of production: it works, and nothing is refused.
#[test]
fn the_whole_stack_needs_no_more_than_the_permissions_of_production() {
    let project = Project::find().unwrap();
    let servers = Profile::fresh(&project, "whole/permissions-broker").unwrap();
    let mut broker = Nats::start(&servers).unwrap();
    let database_url = database::replace(&required("DATABASE_URL"), "flowmeter_whole_permissions").unwrap();
    let users = nats::USERS.map(|user| (user.to_owned(), broker.password(user).to_owned()));
    let backing =
        Backing { database_url, broker: Broker::PerService { url: broker.url(), users: users.into() } };
    let options = Options::new(services::binaries_beside_test().unwrap(), backing)
        .with("COLLECTOR__CLOCK_SKEW", "1s")
        .with("BILLING__REPORT_INTERVAL", "1m");
    let profile = Profile::fresh(&project, "whole/permissions").unwrap();
    let mut stack = Stack::start(profile, options).unwrap();
    let (gateway, sandbox) = (stack.gateway(), stack.sandbox());
    sandbox.post("/control/stripe/meters", &json!({ "event_name": METER })).unwrap();
    sandbox.post("/control/stripe/customers", &json!({ "id": CUSTOMER })).unwrap();
    let plan = json!({ "name": "Start", "monthly_limit": 40, "meter_event_name": METER });
    gateway.put("/v1/plans/start", &plan).unwrap();
    let tenant = json!({ "name": TENANT, "plan": "start", "stripe_customer_id": CUSTOMER,
                         "alert_recipients": ["ops@north.example"] });
    gateway.put(&format!("/v1/tenants/{TENANT}"), &tenant).unwrap();
    sandbox.post(&format!("/control/n8n/{SOURCE}"), &json!({})).unwrap();
    let source = json!({ "tenant": TENANT, "kind": "n8n", "api_key": format!("key-{SOURCE}"),
                         "base_url": format!("{}/n8n/{SOURCE}", sandbox.base()), "poll_interval": "1s" });
    gateway.put(&format!("/v1/sources/{SOURCE}"), &source).unwrap();
    let runs = Runs::good(50);
    let body =
        json!({ "workflow": runs.workflow, "mode": runs.mode, "status": runs.status, "count": runs.count });
    sandbox.post(&format!("/control/n8n/{SOURCE}/run"), &body).unwrap();
    wait::until("50 counted and complete executions", SOON, || {
        let usage = gateway.get(&format!("/v1/usage/{TENANT}"))?;
        Ok((usage["counted"] == 50 && !usage["complete_until"].is_null()).then_some(()))
    })
    .unwrap();
    // One change may cross both thresholds: then there is one mail.
    wait::until("a mail", SOON, || {
        let mails = sandbox.get("/control/mail")?;
        Ok(mails.as_array().is_some_and(|mails| !mails.is_empty()).then_some(()))
    })
    .unwrap();
    sandbox.post("/control/clock", &json!({ "advance_ms": 15 * 60 * 1_000 })).unwrap();
    wait::until("a report to Stripe", SOON, || {
        let totals = sandbox.get("/control/stripe/totals")?;
        Ok(totals
            .as_array()
            .is_some_and(|totals| totals.iter().any(|total| total["value"] == 50))
            .then_some(()))
    })
    .unwrap();
    stack.stop().unwrap();
    let log = fs::read_to_string(servers.log("nats")).unwrap();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    broker.stop().unwrap();
}

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}
