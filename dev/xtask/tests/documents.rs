//! The documents name files and tests; both must exist.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Documents whose paths between backticks are checked, besides the READMEs. Those of a decision or a changelog are of its
/// time. Links are checked everywhere.
const DOCUMENTS: [&str; 4] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/promises.md", "docs/glossary.md"];

/// A span with such an ending is the name of a file.
const ENDINGS: [&str; 12] =
    ["rs", "md", "mjs", "js", "proto", "toml", "sql", "conf", "sh", "yaml", "svg", "html"];

/// Folders that are not in version control.
const GENERATED: [&str; 4] = [".flowmeter", ".git", "node_modules", "target"];

/// Parts of a path that stand for any name, as in `services/NAME/src/lib.rs`.
const ANY_NAME: [&str; 3] = ["*", "NAME", "NNNN"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A document, without its blocks of code.
struct Document {
    /// Below the root.
    path: PathBuf,
    lines: Vec<(usize, String)>,
}

impl Document {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let mut in_code = false;
        let lines = text.lines().enumerate().filter(|(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            !(in_code || is_fence)
        });
        let lines = lines.map(|(index, line)| (index + 1, line.to_owned())).collect();
        Self { path: path.to_owned(), lines }
    }

    /// All of them.
    fn all(root: &Path) -> Vec<Self> {
        let documents = files_below(root, &|path| path.extension().is_some_and(|ending| ending == "md"));
        documents.iter().map(|path| Self::read(root, path.strip_prefix(root).unwrap())).collect()
    }

    /// Whether its paths between backticks are checked.
    fn names_paths(&self) -> bool {
        self.path.ends_with("README.md") || DOCUMENTS.iter().any(|document| self.path == Path::new(document))
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }
}

/// The targets of a line's links that lead into the repository, and the line without its links.
fn split_links(line: &str) -> (Vec<String>, String) {
    let (mut targets, mut rest) = (Vec::new(), line.to_owned());
    while let Some(middle) = rest.find("](") {
        let end = middle + rest[middle..].find(')').expect("a link ends on its line");
        let target = rest[middle + 2..end].split('#').next().unwrap_or_default();
        // An item in a text that rustdoc includes: rustdoc checks it.
        let is_item = target.contains("::");
        if !target.is_empty() && !target.contains("://") && !is_item {
            targets.push(target.to_owned());
        }
        let start = rest[..middle].rfind('[').unwrap_or(middle);
        rest.replace_range(start..=end, "");
    }
    (targets, rest)
}

/// What stands between backticks.
fn spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// Whether a span between backticks is a path of the repository, and not a route, a media type or an expression.
fn is_path(root: &Path, folder: &Path, span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-*".contains(c);
    let first = span.split('/').next().unwrap_or_default();
    if first.is_empty() || !span.chars().all(plain) || GENERATED.contains(&first) {
        return false;
    }
    let has_ending =
        span.rsplit_once('.').is_some_and(|(name, ending)| !name.is_empty() && ENDINGS.contains(&ending));
    let is_below =
        span.contains('/') && (root.join(first).is_dir() || root.join(folder).join(first).is_dir());
    has_ending || is_below || span.ends_with('/')
}

/// Whether there is a file or folder of this path, in which parts may stand for any name.
fn exists(base: &Path, path: &str) -> bool {
    let (first, rest) =
        path.trim_end_matches('/').split_once('/').unwrap_or((path.trim_end_matches('/'), ""));
    let goes_on = |found: &Path| found.exists() && (rest.is_empty() || exists(found, rest));
    let Some((before, after)) = ANY_NAME.iter().find_map(|any| first.split_once(any)) else {
        return goes_on(&base.join(first));
    };
    // What follows a number is an example.
    let after =
        if first.contains("NNNN") { after.rsplit_once('.').map_or("", |(_, ending)| ending) } else { after };
    fs::read_dir(base).into_iter().flatten().flatten().any(|child| {
        let name = child.file_name().to_string_lossy().into_owned();
        name.starts_with(before) && name.ends_with(after) && goes_on(&child.path())
    })
}

/// The files below the folder that are `wanted`, without those that were generated.
fn files_below(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (child.path(), child.file_name());
        if !path.is_dir() {
            found.extend(Some(path).filter(|path| wanted(path)));
        } else if !GENERATED.iter().any(|generated| name == *generated) {
            found.extend(files_below(&path, wanted));
        }
    }
    found
}

/// How many files below the folder have this name.
fn files_named(folder: &Path, name: &str) -> usize {
    files_below(folder, &|path| path.file_name().is_some_and(|own_name| own_name == name)).len()
}

/// What is wrong with a path that a document names.
fn complaint(root: &Path, document: &Document, span: &str) -> Option<String> {
    let folder = root.join(document.folder());
    if exists(&folder, span) || exists(root, span) {
        return None;
    }
    if span.contains('/') {
        return Some(format!("`{span}` does not exist"));
    }
    // A name without a folder: a kind of file in the documents of the whole, one source file in the README of a crate.
    let is_whole = document.folder().components().count() < 2;
    let sources = Some(folder.join("src")).filter(|sources| sources.is_dir());
    match files_named(&sources.unwrap_or(folder), span) {
        1 => None,
        _ if is_whole && files_named(root, span) > 0 => None,
        0 => Some(format!("no file is named `{span}`")),
        several => Some(format!("{several} files are named `{span}`: name the folder too")),
    }
}

#[test]
fn every_path_that_a_document_names_exists() {
    let root = root();
    let mut complaints = Vec::new();
    let mut paths = 0;
    for document in Document::all(&root) {
        for (number, line) in &document.lines {
            let (targets, rest) = split_links(line);
            let place = format!("{}:{number}", document.path.display());
            for target in targets {
                paths += 1;
                if !root.join(document.folder()).join(&target).exists() {
                    complaints.push(format!("{place}: the link to {target} leads nowhere"));
                }
            }
            let spans = spans(&rest).into_iter().filter(|_| document.names_paths());
            for span in spans.filter(|span| is_path(&root, document.folder(), span)) {
                paths += 1;
                let complaint = complaint(&root, &document, span);
                complaints.extend(complaint.map(|complaint| format!("{place}: {complaint}")));
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    assert!(paths > 300, "only {paths} paths were found: the documents are read wrongly");
}

/// The tests that a file defines.
fn tests_of(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let is_rust = file.extension().is_some_and(|ending| ending == "rs");
    if !is_rust {
        // `test('name', ...)`.
        let calls = text.split("test(").skip(1).filter_map(|call| {
            let quote = call.chars().next().filter(|quote| "'\"`".contains(*quote))?;
            Some(call[1..].split(quote).next()?.to_owned())
        });
        return calls.collect();
    }
    let mut is_test = false;
    let mut tests = BTreeSet::new();
    for line in text.lines().map(str::trim_start) {
        match line.split_once("fn ").and_then(|(_, function)| function.split_once('(')) {
            Some((name, _)) if is_test => {
                tests.insert(name.to_owned());
                is_test = false;
            }
            _ => {
                is_test =
                    line.starts_with("#[") && (is_test || line.contains("test]") || line.contains("test("))
            }
        }
    }
    tests
}

#[test]
fn every_promised_test_exists_in_its_file() {
    let root = root();
    let document = Document::read(&root, Path::new("docs/promises.md"));
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut promised = 0;
    for (number, line) in document.lines.iter().filter(|(_, line)| line.starts_with('|')) {
        let mut cells = line.trim_matches('|').splitn(2, " | ");
        let (targets, rest) = split_links(cells.next().unwrap_or_default());
        let second = cells.next().unwrap_or_default();
        // Names stand beside the file, or in the second column.
        let names = if rest.contains('`') { spans(&rest) } else { spans(second) };
        for target in &targets {
            files.entry(target.clone()).or_insert_with(|| tests_of(&root.join("docs").join(target)));
        }
        for name in names.into_iter().filter(|name| !name.contains('/') && !name.starts_with("cargo ")) {
            promised += 1;
            if !targets.iter().any(|target| files[target].contains(name)) {
                missing.push(format!("docs/promises.md:{number}: {name} is not in {}", targets.join(" or ")));
            }
        }
    }
    assert!(missing.is_empty(), "{} tests are missing:\n{}", missing.len(), missing.join("\n"));
    assert!(promised > 150, "only {promised} tests were found: the document is read wrongly");
}
