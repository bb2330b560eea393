//! The gateway behind a proxy that serves it under a path, beside others.

use reqwest::{Method, header, redirect};
use serde_json::json;

use crate::harness::{Harness, OPERATOR, answer};

const PUBLIC: &str = "https://apps.example.com/meter/";

#[tokio::test]
async fn every_part_answers_under_the_path_and_without_it() {
    let world = Harness::at(PUBLIC).await;
    world.with_tenants(100).await;
    // A proxy keeps the path, or strips it.
    for path in ["/meter", ""] {
        let page = world.request(Method::GET, &format!("{path}/")).send().await.unwrap();
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
        assert!(page.headers().contains_key(header::CONTENT_SECURITY_POLICY), "{path}");
        let script = world.request(Method::GET, &format!("{path}/app.js")).send().await.unwrap();
        assert_eq!(script.status(), 200, "{path}");
        let (status, document) = answer(world.request(Method::GET, &format!("{path}/openapi.json"))).await;
        assert_eq!((status, &document["servers"]), (200, &json!([{"url": "/meter"}])), "{path}");
        let (status, usage) = world.ask(Method::GET, &format!("{path}/v1/usage/north"), None).await;
        assert_eq!((status, &usage["tenant"]), (200, &json!("north")), "{path}");
        let events = world.request(Method::GET, &format!("{path}/v1/events")).bearer_auth(OPERATOR);
        assert_eq!(events.send().await.unwrap().headers()[header::CONTENT_TYPE], "text/event-stream");
        let (status, verdict) = world
            .ask(Method::POST, &format!("{path}/v1/admissions"), Some(json!({"tenant": "north", "id": "r"})))
            .await;
        assert_eq!((status, &verdict["allowed"]), (200, &json!(true)), "{path}");
    }
    assert_eq!(world.ask(Method::GET, "/meters/v1/usage", None).await.0, 404);
    world.finish().await;
}

#[tokio::test]
async fn a_session_cookie_is_limited_to_the_path() {
    let world = Harness::at(PUBLIC).await;
    let sign_in = world.request(Method::POST, "/meter/v1/session").json(&json!({"token": OPERATOR}));
    let signed_in = sign_in.send().await.unwrap();
    let cookie = signed_in.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Path=/meter;") && cookie.contains("Secure"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    // A Flowmeter at the root of the same host has a session of its own, which a browser sends last.
    let both = format!("{pair}; flowmeter_session=another");
    let session = world.request(Method::GET, "/meter/v1/session").header(header::COOKIE, &both);
    assert_eq!(answer(session).await.0, 200);
    let sign_out = world.request(Method::DELETE, "/meter/v1/session").header(header::COOKIE, &both);
    let signed_out = sign_out.header("x-flowmeter", "1").send().await.unwrap();
    let gone = signed_out.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(gone.contains("Path=/meter") && gone.contains("Max-Age=0"), "{gone}");
    world.finish().await;
}

#[tokio::test]
async fn the_path_without_its_slash_redirects_to_the_page() {
    let world = Harness::at(PUBLIC).await;
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
    let bare = client.get(format!("{}/meter", world.base())).send().await.unwrap();
    assert_eq!(
        (bare.status().as_u16(), &bare.headers()[header::LOCATION]),
        (308, &"/meter/".parse().unwrap())
    );
    world.finish().await;
}

#[tokio::test]
async fn without_a_path_cookies_are_for_the_whole_host() {
    let world = Harness::start().await;
    let sign_in = world.request(Method::POST, "/v1/session").json(&json!({"token": OPERATOR}));
    let cookie = sign_in.send().await.unwrap().headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Path=/;"), "{cookie}");
    assert_eq!(world.ask(Method::GET, "/meter/v1/usage", None).await.0, 404);
    world.finish().await;
}
