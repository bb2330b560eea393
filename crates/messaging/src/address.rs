//! The brokers' addresses, as configured.

use async_nats::ServerAddr;

/// No cluster has more brokers; an address with more is a mistake.
const BROKERS_MAX: usize = 32;

/// The brokers of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Brokers {
    /// All of them; one that answers is enough.
    pub(crate) servers: Vec<ServerAddr>,
    /// User and password of the first address that has both.
    pub(crate) login: Option<(String, String)>,
    /// The addresses without credentials, for people.
    pub(crate) shown: String,
}

/// The text is not a broker's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is none.
    #[error("nats.url is empty; use e.g. `nats://127.0.0.1:4222`")]
    Empty,
    /// There are too many.
    #[error("nats.url names more than {BROKERS_MAX} brokers")]
    TooMany,
    /// One cannot be read. Its text is not repeated, because it may hold a password.
    #[error(
        "nats.url: address {number} of {count} cannot be read; use `nats://host:port`, several with commas between \
         them, and nats.user and nats.password instead of a password in the address, or percent-encode its \
         `#`, `/`, `?`, `@`, `,` and `%`"
    )]
    Unreadable {
        /// Which one, from 1.
        number: usize,
        /// Of how many.
        count: usize,
    },
}

/// Checks that text names brokers: one, or several separated by commas.
pub fn check_brokers(text: &str) -> Result<(), AddressError> {
    parse(text).map(drop)
}

pub(crate) fn parse(text: &str) -> Result<Brokers, AddressError> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let count = parts.len();
    match count {
        0 => return Err(AddressError::Empty),
        1..=BROKERS_MAX => {}
        _ => return Err(AddressError::TooMany),
    }
    let mut servers = Vec::with_capacity(count);
    let mut login = None;
    for (number, part) in (1..).zip(parts) {
        let server = read(part).ok_or(AddressError::Unreadable { number, count })?;
        if login.is_none() {
            login = server
                .username()
                .zip(server.password())
                .map(|(user, password)| (decoded(user), decoded(password)));
        }
        servers.push(server);
    }
    let shown: Vec<String> =
        servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
    Ok(Brokers { servers, login, shown: shown.join(", ") })
}

/// An address; `None` if a raw `#`, `/` or `?` of a password has cut it in pieces, which a parser may take
/// for another host.
fn read(part: &str) -> Option<ServerAddr> {
    let (_, rest) = part.split_once("://").unwrap_or(("", part));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let after = rest.strip_prefix(authority).unwrap_or_default();
    if after.contains('@') || authority.is_empty() {
        return None;
    }
    part.parse().ok()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_brokers_are_separated_by_commas() {
        let brokers = parse("nats://one:4222, two:4223,nats://u:p@three").unwrap();
        assert_eq!(brokers.shown, "one:4222, two:4223, three:4222");
        assert_eq!(brokers.login, Some(("u".to_owned(), "p".to_owned())));
        assert_eq!(parse(" , ").unwrap_err(), AddressError::Empty);
        let unreadable = parse("nats://one,http://two").unwrap_err();
        assert_eq!(unreadable, AddressError::Unreadable { number: 2, count: 2 });
    }

    #[test]
    fn a_raw_special_character_in_a_password_is_refused_with_the_remedy() {
        for raw in ["nats://u:a#b@h:4222", "nats://u:1/b@h:4222", "nats://u:1?b@h", "nats://u:a,b@h"] {
            let error = parse(raw).unwrap_err().to_string();
            assert!(error.contains("percent-encode"), "{raw}: {error}");
            assert!(!error.contains("u:"), "{error} shows the login");
        }
        assert_eq!(parse("nats://u:a@b@h").unwrap().login, Some(("u".to_owned(), "a@b".to_owned())));
        let encoded = parse("nats://u:a%23%2F%3f%40b%@h:4222").unwrap();
        assert_eq!(encoded.login, Some(("u".to_owned(), "a#/?@b%".to_owned())));
        assert_eq!(encoded.shown, "h:4222");
    }
}
