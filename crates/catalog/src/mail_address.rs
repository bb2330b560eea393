//! A mail address that can be sent to. The only check: the alerts service can send to what `apply` accepts.

use std::fmt;

use idna::{AsciiDenyList, uts46};

/// RFC 5321, section 4.5.3.1.1, in bytes.
const LOCAL_BYTES_MAX: usize = 64;

/// RFC 5321, section 4.5.3.1.3: a path of 256 bytes with its angle brackets.
const ADDRESS_BYTES_MAX: usize = 254;

/// Longest part of a bad address that an error quotes, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// A mail address: a local part and a domain that mail servers accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAddress {
    local: String,
    domain: String,
}

/// The text is not a mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not a mail address: {reason}")]
pub struct InvalidMailAddress {
    shown: String,
    reason: &'static str,
}

impl MailAddress {
    /// Reads an address such as `ops@example.com`. A domain with letters beyond ASCII becomes its A-label, which every
    /// mail server accepts; a local part may have such letters, which only servers with SMTPUTF8 accept.
    pub fn parse(text: &str) -> Result<Self, InvalidMailAddress> {
        let invalid =
            |reason| InvalidMailAddress { shown: text.chars().take(SHOWN_CHARS_MAX).collect(), reason };
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| invalid("it has no @"))?;
        if local.contains('@') {
            return Err(invalid("it has more than one @"));
        }
        if local.is_empty() || local.len() > LOCAL_BYTES_MAX {
            return Err(invalid("use 1 to 64 bytes before the @"));
        }
        if local.split('.').any(str::is_empty) {
            return Err(invalid("before the @, a dot stands between two other characters"));
        }
        if !local.chars().all(|c| c == '.' || is_atom(c)) {
            return Err(invalid("before the @, use letters, digits, dots and any of !#$%&'*+-/=?^_`{|}~"));
        }
        let domain = ascii_domain(domain).ok_or_else(|| invalid("what follows the @ is not a domain"))?;
        if local.len() + 1 + domain.len() > ADDRESS_BYTES_MAX {
            return Err(invalid("it is longer than 254 bytes"));
        }
        Ok(Self { local: local.to_owned(), domain })
    }

    /// The part before the @.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the @, in ASCII.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether only a server with SMTPUTF8 accepts it.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// RFC 5322's `atext`, and the letters of other scripts; quoted local parts are not accepted.
fn is_atom(c: char) -> bool {
    c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

/// The domain's A-labels, if it has the form of a host name.
fn ascii_domain(domain: &str) -> Option<String> {
    let ascii = uts46::Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            uts46::Hyphens::CheckFirstLast,
            uts46::DnsLength::Verify,
        )
        .ok()?;
    // A last label of digits only means an IP address, which mail accepts in brackets only.
    let last = ascii.rsplit('.').next().unwrap_or_default();
    (!last.chars().all(|c| c.is_ascii_digit())).then(|| ascii.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_mail_server_takes_are_refused() {
        for bad in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "ops@@at.example",
            "ops@at2.example@",
            "a@b@c.example",
            "ops.@dot.example",
            ".ops@dot.example",
            "a..b@dot.example",
            "ops@dot..example",
            "ops@.example",
            "ops@dot.example.",
            "ops@-dot.example",
            "ops@dot-.example",
            "ops@-x",
            "ops@a_b.example",
            "ops@127.0.0.1",
            "a b@example.com",
            "a@b .example",
            "<a@b.example>",
            "\"a b\"@example.com",
            "a,b@example.com",
            "a\u{200b}@example.com",
            "a\0@example.com",
            "a@b.example\r\nBcc: x@y.example",
            "a@b.example\0",
        ] {
            assert!(MailAddress::parse(bad).is_err(), "{bad:?}");
        }
        assert!(MailAddress::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
        assert!(MailAddress::parse(&format!("a@{}.example", "b".repeat(64))).is_err());
        assert!(MailAddress::parse(&format!("a@{}example", "b.".repeat(130))).is_err());
    }

    #[test]
    fn what_mail_servers_take_is_accepted() {
        for good in [
            "ops@north.example",
            "OPS@DUP.example",
            "ops+billing@plus.example",
            "o'hara@x.example",
            "root@mail",
        ] {
            MailAddress::parse(good).unwrap();
        }
    }

    #[test]
    fn a_domain_beyond_ascii_becomes_its_a_label() {
        let address = MailAddress::parse("ops@bücher.example").unwrap();
        assert_eq!(address.to_string(), "ops@xn--bcher-kva.example");
        assert!(!address.needs_smtputf8());
        assert!(MailAddress::parse("josé@loc.example").unwrap().needs_smtputf8());
    }
}
