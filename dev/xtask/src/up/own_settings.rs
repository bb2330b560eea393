//! Settings for `cargo xtask up` from its environment: `FLOWMETER__COLLECTOR__POLL_INTERVAL=10s cargo xtask up`.

use std::{collections::BTreeMap, ffi::OsString};

/// Sections whose settings are accepted. The database, the broker and the clock are those of the stack.
const SECTIONS: [&str; 6] = [
    "FLOWMETER__COLLECTOR__",
    "FLOWMETER__AGGREGATOR__",
    "FLOWMETER__BILLING__",
    "FLOWMETER__ALERTS__",
    "FLOWMETER__GATEWAY__",
    "FLOWMETER__TELEMETRY__",
];

/// Settings that the stack decides: its keys and the ports that it prints.
const OF_THE_STACK: [&str; 5] = [
    "FLOWMETER__COLLECTOR__LISTEN",
    "FLOWMETER__COLLECTOR__SECRET_KEY",
    "FLOWMETER__GATEWAY__LISTEN",
    "FLOWMETER__GATEWAY__OPERATOR_TOKEN",
    "FLOWMETER__GATEWAY__COLLECTOR_PUBLIC_KEY",
];

/// Those of the variables that are settings of the services; they override the sandbox's. An empty one is ignored.
pub fn of(variables: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let is_taken = |name: &str| {
        SECTIONS.iter().any(|section| name.starts_with(section)) && !OF_THE_STACK.contains(&name)
    };
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    variables.filter_map(text).filter(|(name, value)| is_taken(name) && !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_settings_are_accepted_and_the_stacks_own_are_not() {
        let variables = [
            ("FLOWMETER__COLLECTOR__ALLOW_PRIVATE_ADDRESSES", "true"),
            ("FLOWMETER__ALERTS__SMTP_URL", "smtps://mail.example.com"),
            ("FLOWMETER__BILLING__STRIPE_KEY", ""),
            ("FLOWMETER__DATABASE__URL", "postgres://elsewhere"),
            ("FLOWMETER__GATEWAY__LISTEN", "0.0.0.0:80"),
            ("FLOWMETER_URL", "http://elsewhere"),
        ];
        let own = of(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        let names: Vec<&str> = own.keys().map(String::as_str).collect();
        assert_eq!(names, ["FLOWMETER__ALERTS__SMTP_URL", "FLOWMETER__COLLECTOR__ALLOW_PRIVATE_ADDRESSES"]);
    }
}
