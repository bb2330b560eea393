//! Time zones that a tenant may have.

use jiff::tz::TimeZoneDatabase;

/// In the time zone database, but not places: some browsers refuse them.
const NOWHERE: [&str; 2] = ["Factory", "Etc/Unknown"];

/// The text is not a time zone that services and browsers both know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time zone: use an IANA name such as `Europe/Madrid`, or `UTC`")]
pub struct InvalidTimeZone(String);

/// Checks the time zone of a tenant that is new or changed.
///
/// Only names of the IANA database count. A machine's own copy holds more (`localtime`, `posixrules`, `posix/…`,
/// `right/…`): they mean something else on another machine, and no browser can show a date in them. Hence the
/// built-in copy decides, which is the same everywhere.
pub fn check_time_zone(name: &str) -> Result<(), InvalidTimeZone> {
    let is_nowhere = NOWHERE.iter().any(|nowhere| nowhere.eq_ignore_ascii_case(name));
    match TimeZoneDatabase::bundled().get(name) {
        Ok(_) if !is_nowhere => Ok(()),
        _ => Err(InvalidTimeZone(name.chars().take(64).collect())),
    }
}

/// Every name that [`check_time_zone`] accepts, in the database's own spelling.
pub fn time_zone_names() -> Vec<String> {
    let bundled = TimeZoneDatabase::bundled();
    let names = bundled.available().map(|name| name.as_str().to_owned());
    names.filter(|name| check_time_zone(name).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_iana_database_are_time_zones_in_any_case() {
        for name in
            ["UTC", "Etc/UTC", "Europe/Madrid", "europe/madrid", "Asia/Calcutta", "US/Pacific", "EST5EDT"]
        {
            assert_eq!(check_time_zone(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn zones_that_only_this_machine_or_nobody_knows_are_refused() {
        for name in [
            "localtime",
            "posixrules",
            "Factory",
            "factory",
            "Etc/Unknown",
            "posix/Europe/Madrid",
            "right/Europe/Madrid",
            "SystemV/EST5",
            "Mars/Olympus",
            "+01:00",
            "CET-1CEST",
            " UTC",
            "",
        ] {
            let error = check_time_zone(name).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains("Europe/Madrid"), "{error}");
        }
    }

    #[test]
    fn the_list_of_names_is_that_of_the_check() {
        let names = time_zone_names();
        assert!(names.len() > 400, "{} names", names.len());
        assert!(names.contains(&"Europe/Madrid".to_owned()) && !names.contains(&"Factory".to_owned()));
    }
}
