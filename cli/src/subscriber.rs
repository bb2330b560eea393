//! `flowmeter subscriber`.

use std::io::Write;

use anyhow::{Context as _, Result};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use proto::{
    Namespace,
    subscribers::{Subscriber, Topic},
};
use uuid::Uuid;

/// The cheapest that there is: a costly hash protects passwords that can be guessed, and these are random. The broker
/// computes it for every connection.
const BCRYPT_COST: u32 = 4;

/// Arguments of `flowmeter subscriber`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// The name of the user, and of its durable consumer on each stream.
    name: String,
    /// What it may read, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_parser = topic_parser())]
    topics: Vec<Topic>,
}

fn topic_parser() -> impl TypedValueParser<Value = Topic> {
    let names = PossibleValuesParser::new(Topic::ALL.map(Topic::as_str));
    names.try_map(|name| Topic::parse(&name).ok_or("there is no such topic"))
}

impl Subscribe {
    /// Prints the user for the broker's configuration to `out`; the password and what to do to `aside`, so that a
    /// redirected configuration does not hold the password.
    pub fn run(&self, namespace: &Namespace, out: &mut dyn Write, aside: &mut dyn Write) -> Result<()> {
        let subscriber = Subscriber::parse(&self.name)?;
        // A letter first, as in the broker's other passwords; 244 random bits, within the 72 bytes that bcrypt reads.
        let password = format!("sub_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let hash = bcrypt::hash(&password, BCRYPT_COST).context("cannot hash the password")?;
        write!(out, "{}", subscriber.user(namespace, &self.topics, &hash))?;
        let (name, inbox) = (subscriber.name(), subscriber.inbox_prefix());
        writeln!(
            aside,
            "Add this to `users` in the configuration of every broker (in YAML as an item of the list),"
        )?;
        writeln!(aside, "and reload it: nats-server --signal reload")?;
        writeln!(
            aside,
            "Connect as {name} with the inbox prefix {inbox}; name each durable consumer {name}."
        )?;
        writeln!(aside, "The password, which is stored nowhere: {password}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        subscribe: Subscribe,
    }

    fn run(arguments: &[&str]) -> Result<(String, String)> {
        let arguments = Arguments::try_parse_from([&["subscriber"][..], arguments].concat())?;
        let (mut out, mut aside) = (Vec::new(), Vec::new());
        arguments.subscribe.run(&Namespace::default(), &mut out, &mut aside)?;
        Ok((String::from_utf8(out)?, String::from_utf8(aside)?))
    }

    #[test]
    fn the_password_is_shown_beside_the_configuration_only() {
        let (user, aside) = run(&["books", "--topics", "usage,thresholds"]).unwrap();
        let password = aside.trim_end().rsplit_once(' ').unwrap().1;
        assert!(!user.contains(password), "{user}");
        let hash = user.split('"').find(|part| part.starts_with("$2b$")).unwrap();
        assert!(bcrypt::verify(password, hash).unwrap());
        assert!(
            user.contains("FLOWMETER_USAGE_STATE.books") && !user.contains("FLOWMETER_PERIODS"),
            "{user}"
        );
        let (_, other) = run(&["books", "--topics", "usage"]).unwrap();
        assert!(!other.contains(password));
    }

    #[test]
    fn unknown_topics_and_names_of_the_services_are_refused() {
        assert!(run(&["books", "--topics", "catalog"]).is_err());
        assert!(run(&["books"]).is_err());
        let error = run(&["operator", "--topics", "usage"]).unwrap_err();
        assert!(error.to_string().contains("choose another one"), "{error}");
    }
}
