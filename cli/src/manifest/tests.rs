use super::*;

const FILE: &str = r#"
plans:
  - id: starter
    name: Starter
    monthly_limit: 1000
    thresholds_percent: [100, 80]
tenants:
  - id: north
    name: North
    plan: starter
    alert_recipients: [ops@north.example]
sources:
  - id: north-n8n
    tenant: north
    base_url: ${SANDBOX_URL}/n8n/north
    api_key: ${NORTH_KEY}
    poll_interval: 5s
"#;

fn variable(name: &str) -> Option<String> {
    match name {
        "SANDBOX_URL" => Some("http://127.0.0.1:9000".to_owned()),
        "NORTH_KEY" => Some("key-north".to_owned()),
        _ => None,
    }
}

/// The whole error, as `main` shows it.
fn refused(text: &str) -> String {
    let error = parse(text, "demo.yaml", &variable).unwrap_err();
    format!("{:#}", anyhow::Error::from(error))
}

#[test]
fn items_come_in_the_order_in_which_they_can_be_sent() {
    let items = parse(FILE, "demo.yaml", &variable).unwrap();
    let named: Vec<_> = items.iter().map(|item| (item.kind.as_str(), item.id.as_str())).collect();
    assert_eq!(named, [("plan", "starter"), ("tenant", "north"), ("source", "north-n8n")]);
}

#[test]
fn missing_keys_have_the_gateways_defaults() {
    let items = parse(FILE, "demo.yaml", &variable).unwrap();
    assert_eq!(items[0].body["limit_kind"], "hard");
    assert_eq!(items[0].body["thresholds_percent"], json!([80, 100]));
    assert_eq!(items[1].body["time_zone"], "UTC");
    assert_eq!(items[1].body["stripe_customer_id"], Value::Null);
}

#[test]
fn variables_are_substituted_and_keys_stay_hidden() {
    let items = parse(FILE, "demo.yaml", &variable).unwrap();
    assert_eq!(items[2].body["base_url"], "http://127.0.0.1:9000/n8n/north");
    assert_eq!(items[2].api_key.as_ref().unwrap().expose_secret(), "key-north");
    assert!(!format!("{items:?}").contains("key-north"));
}

#[test]
fn an_error_names_the_place_of_the_mistake() {
    let typo = FILE.replace("monthly_limit", "montly_limit");
    let error = refused(&typo);
    assert!(error.contains("demo.yaml") && error.contains("plans[0]"), "{error}");
    assert!(error.contains("montly_limit") && error.contains("line"), "{error}");

    let error = refused(&FILE.replace("5s", "0s"));
    assert!(error.starts_with("demo.yaml: source north-n8n: poll_interval"), "{error}");

    let error = refused(&FILE.replace("NORTH_KEY", "SOUTH_KEY"));
    assert!(error.contains("source north-n8n: api_key: the environment variable SOUTH_KEY"), "{error}");
}

#[test]
fn a_shared_source_says_whose_its_parts_are() {
    let shared = FILE.replace(
        "    tenant: north\n    base_url",
        "    attributions:\n      - {tenant: north, project: p1, from: 2026-11-01T00:00:00Z}\n    base_url",
    );
    let items = parse(&shared, "demo.yaml", &variable).unwrap();
    assert_eq!(items[2].body["tenant"], Value::Null);
    let expected = json!([{"tenant": "north", "project": "p1", "from": "2026-11-01T00:00:00Z"}]);
    assert_eq!(items[2].body["attributions"], expected);
    let both = refused(&shared.replace("project: p1", "project: p1, tag: t"));
    assert!(both.contains("source north-n8n: attributions"), "{both}");
}

#[test]
fn a_plan_says_how_the_limit_check_decides() {
    let strict = FILE
        .replace("    monthly_limit", "    admission: {grace: 24h, loop_rule: refuse}\n    monthly_limit");
    let items = parse(&strict, "demo.yaml", &variable).unwrap();
    assert_eq!(items[0].body["admission"]["grace"], "24h");
    assert_eq!(items[0].body["admission"]["loop_rule"], "refuse");
    let error = refused(&strict.replace("24h", "soon"));
    assert!(error.contains("plan starter: admission.grace"), "{error}");
}

#[test]
fn an_id_may_be_used_for_one_item_only() {
    let twice = FILE.replace("tenants:", "  - {id: starter, name: Again}\ntenants:");
    assert!(refused(&twice).contains("plan starter: is in the file twice"), "{}", refused(&twice));
}

#[test]
fn the_demo_can_be_applied() {
    let demo = include_str!("../../../dev/sandbox/demo.yaml");
    let items = parse(demo, "demo.yaml", &variable).unwrap();
    assert_eq!(items.len(), 9);
    assert!(items.iter().filter(|item| item.kind == CatalogKind::Source).all(|s| s.api_key.is_some()));
}

#[test]
fn an_empty_file_has_no_items() {
    for file in ["{}", "", "tenants:", "x-a: {}\nplans:\ntenants: []"] {
        assert!(parse(file, "demo.yaml", &variable).unwrap().is_empty(), "{file:?}");
    }
}

#[test]
fn merge_keys_are_resolved_and_own_keys_win() {
    let file = "
x-defaults: &base { plan: open, time_zone: Europe/Madrid }
x-spanish: &spanish { <<: *base, language: es }
tenants:
  - { <<: *base, id: y1, name: Y1 }
  - { id: y2, name: Y2, time_zone: UTC, <<: *spanish }
  - { id: y3, name: Y3, <<: [{ language: es }, { language: en, plan: small }, *base] }
";
    let items = parse(file, "demo.yaml", &variable).unwrap();
    let shown = |index: usize| {
        let body = &items[index].body;
        ["plan", "time_zone", "language"].map(|field| body[field].as_str().unwrap().to_owned())
    };
    assert_eq!(shown(0), ["open", "Europe/Madrid", "en"]);
    assert_eq!(shown(1), ["open", "UTC", "es"]);
    assert_eq!(shown(2), ["small", "Europe/Madrid", "es"]);
}

#[test]
fn a_mistake_beside_a_merge_key_names_its_item() {
    let file = "
x-defaults: &base { plan: open, time_zone: Europe/Madrid }
tenants:
  - { <<: *base, id: y1, name: Y1 }
  - { <<: *base, id: y2, nam: Y2 }
";
    let error = refused(file);
    assert!(error.contains("demo.yaml: tenants[1]") && error.contains("`nam`"), "{error}");
    let error = refused("tenants: [{ <<: open, id: y1, name: Y1 }]");
    assert!(error.contains("tenants[0]: `<<` takes a mapping"), "{error}");
    let error = refused("y-defaults: { plan: open }\ntenants: []");
    assert!(error.contains("y-defaults"), "{error}");
}

#[test]
fn a_key_without_a_value_is_refused_with_what_to_write() {
    for (blank, path) in [
        (
            FILE.replace("limit: 1000", "limit:"),
            "plans[0].monthly_limit has no value: write a number, or `unlimited`",
        ),
        (FILE.replace("limit: 1000", "limit: ~"), "plans[0].monthly_limit has no value"),
        (FILE.replace("limit: 1000", "limit: ''"), "plans[0].monthly_limit has no value"),
        (
            FILE.replace("limit: 1000", "limit: 9\n    admission: {tenant_caps: {per_minute: }}"),
            "plans[0].admission.tenant_caps.per_minute has no value: write a number, or `unlimited`",
        ),
        (FILE.replace("limit: 1000", "limit: 9\n    price:"), "plans[0].price has no value"),
        (FILE.replace("plan: starter", "plan: starter\n    time_zone:"), "tenants[0].time_zone has no value"),
        (
            FILE.replace("plan: starter", "plan: starter\n    language: ''"),
            "tenants[0].language has no value",
        ),
        (FILE.replace("plan: starter", "plan: starter\n    limit_override:"), "tenants[0].limit_override"),
        (FILE.replace("[ops@north.example]", "['']"), "tenants[0].alert_recipients[0] has no value"),
        (FILE.replace("api_key: ${NORTH_KEY}", "api_key:"), "sources[0].api_key has no value"),
        (FILE.replace("poll_interval: 5s", "poll_interval:"), "sources[0].poll_interval has no value"),
    ] {
        let error = refused(&blank);
        assert!(error.contains(path), "{path} is missing in: {error}");
    }
}

#[test]
fn no_limit_is_a_key_left_out_or_the_word() {
    let limit = |file: &str| parse(file, "demo.yaml", &variable).unwrap()[0].body["monthly_limit"].clone();
    assert_eq!(limit(FILE), json!(1_000));
    assert_eq!(limit(&FILE.replace("    monthly_limit: 1000\n", "")), Value::Null);
    assert_eq!(limit(&FILE.replace("1000", "unlimited")), Value::Null);
    for bad in ["none", "-1", "1.5", "1_000"] {
        let error = refused(&FILE.replace("1000", bad));
        assert!(error.contains("monthly_limit") && error.contains("or `unlimited`"), "{bad}: {error}");
    }
}

#[test]
fn a_zone_that_browsers_do_not_know_is_refused() {
    for zone in ["localtime", "posixrules", "Factory", "posix/Europe/Madrid"] {
        let error = refused(&FILE.replace("plan: starter", &format!("plan: starter\n    time_zone: {zone}")));
        assert!(error.contains("tenant north: time_zone") && error.contains("Europe/Madrid"), "{error}");
    }
}
