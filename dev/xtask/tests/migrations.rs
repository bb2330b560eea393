//! Migrations let the previous release run on, or say that they do not (docs/adr/0044).

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The migrations of all releases, each with the hash of its text.
const RELEASED: &str = "dev/xtask/tests/released_migrations.txt";

/// Set it when a release is made.
const WRITE: &str = "FLOWMETER_WRITE_MIGRATIONS";

/// Statements after which the previous release may fail, or write what is no longer allowed.
const BREAKING: [&str; 9] = [
    "DROP ",
    " RENAME ",
    "SET NOT NULL",
    " TYPE ",
    "ADD CONSTRAINT",
    "ADD CHECK",
    "UNIQUE INDEX",
    "CREATE TRIGGER",
    "TRUNCATE",
];

/// A comment with the reason why the previous release can go on in spite of such a statement.
const HARMLESS: &str = "-- Older releases:";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every migration: its path below the root, and its text.
fn migrations() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for group in ["crates", "services"] {
        for package in fs::read_dir(root().join(group)).unwrap() {
            let Ok(files) = fs::read_dir(package.unwrap().path().join("migrations")) else { continue };
            for file in files {
                let path = file.unwrap().path();
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

fn released() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(RELEASED)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(hash, path)| (path.to_owned(), hash.to_owned())).collect()
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Why the previous release could not run after this migration; nothing if it says so itself, or says why it can.
fn breaks(text: &str) -> Option<&'static str> {
    if text.contains("need_migration(") || text.contains(HARMLESS) {
        return None;
    }
    let statements: String =
        text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let statements = statements.to_uppercase();
    let breaking = BREAKING.into_iter().find(|words| statements.contains(words));
    let column = statements.split(';').flat_map(|statement| statement.split(',')).any(|part| {
        part.contains("ADD COLUMN")
            && part.contains("NOT NULL")
            && !part.contains("DEFAULT")
            && !part.contains("GENERATED")
    });
    breaking.or(column.then_some("a new column that must be given, without a default"))
}

#[test]
fn released_migrations_are_never_edited() {
    let now = migrations();
    if env::var_os(WRITE).is_some() {
        let lines: String = now.iter().map(|(path, text)| format!("{}  {path}\n", hash(text))).collect();
        fs::write(root().join(RELEASED), lines).unwrap();
    }
    let released = released();
    assert!(!released.is_empty(), "{RELEASED} is missing");
    for (path, expected) in released {
        let text = now.get(&path).unwrap_or_else(|| panic!("{path} was released and is gone: add it again"));
        assert_eq!(hash(text), expected, "{path} was released: undo the change and add another migration");
    }
}

#[test]
fn a_new_migration_that_breaks_the_previous_release_says_so() {
    let released = released();
    for (path, text) in migrations().iter().filter(|(path, _)| !released.contains_key(*path)) {
        if let Some(why) = breaks(text) {
            panic!(
                "{path}: {why}: the previous release may fail on it. Call need_migration() in it, or give the reason why it \
                 does not after `{HARMLESS}` (docs/adr/0044)"
            );
        }
    }
}

#[test]
fn breaking_statements_are_recognised() {
    for text in [
        "ALTER TABLE a DROP COLUMN b;",
        "alter table a rename to b;",
        "ALTER TABLE a ALTER COLUMN b SET NOT NULL;",
        "ALTER TABLE a ALTER COLUMN b TYPE bigint;",
        "ALTER TABLE a ADD COLUMN c int DEFAULT 0, ADD COLUMN b text NOT NULL;",
        "CREATE UNIQUE INDEX a ON b (c);",
    ] {
        assert!(breaks(text).is_some(), "{text}");
        assert!(breaks(&format!("{HARMLESS} never write it.\n{text}")).is_none(), "{text}");
        assert!(breaks(&format!("SELECT need_migration(1160, '0.2.0');\n{text}")).is_none(), "{text}");
    }
    for text in [
        "-- DROP nothing\nALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT '';",
        "CREATE TABLE a (b text NOT NULL);",
        "CREATE INDEX a ON b (c);",
    ] {
        assert_eq!(breaks(text), None, "{text}");
    }
}
