//! Checks the log lines of all services in their sources.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How calls of the logging macros begin.
const MACROS: [&str; 4] = ["tracing::error!(", "tracing::warn!(", "tracing::info!(", "tracing::debug!("];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            // Tests may contain what this test looks for; they never run in production.
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a macro call, up to its closing parenthesis.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let end = text.char_indices().find(|(_, letter)| {
        depth += i32::from(*letter == '(') - i32::from(*letter == ')');
        depth == 0
    });
    end.map_or(text, |(end, _)| &text[..end])
}

#[test]
fn no_line_opens_a_secret() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["services", "crates", "cli"] {
        sources(&root.join(folder), &mut files);
    }
    let mut lines = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for name in MACROS {
            for rest in text.split(name).skip(1) {
                let said = arguments(rest);
                lines += 1;
                // Keys and tokens are of types that do not show themselves; only this opens one.
                assert!(!said.contains("expose_secret"), "{}: {said}", file.display());
            }
        }
    }
    assert!(lines > 100, "{lines} lines: has the log moved?");
}
