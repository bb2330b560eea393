//! `flowmeter keys`.

use std::io::{self, Write};

use catalog::sealing::KeyPair;
use secrecy::ExposeSecret;

/// Prints a new pair: the private key for the collector, the public one for the gateway.
pub fn run(out: &mut dyn Write) -> io::Result<()> {
    let pair = KeyPair::generate();
    writeln!(out, "secret_key={}", pair.secret.expose_secret())?;
    writeln!(out, "public_key={}", pair.public)
}

#[cfg(test)]
mod tests {
    use catalog::sealing::{OpeningKey, SealingKey};

    use super::*;

    #[test]
    fn the_printed_keys_are_a_pair() {
        let mut printed = Vec::new();
        run(&mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let value = |name: &str| {
            printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().to_owned()
        };
        let sealed = SealingKey::parse(&value("public_key")).unwrap().seal(&"key-north".into());
        let opened = OpeningKey::parse(&value("secret_key").into()).unwrap().open(&sealed).unwrap();
        assert_eq!(opened.expose_secret(), "key-north");
    }
}
