//! The rules of ARCHITECTURE.md that a program can check.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().exec().unwrap()
}

/// The package's folder below the root, e.g. `services/collector`.
fn folder(metadata: &Metadata, package: &Package) -> String {
    let manifest = package.manifest_path.strip_prefix(&metadata.workspace_root).unwrap();
    manifest.parent().unwrap().to_string()
}

/// The packages in a folder of the workspace.
fn below(metadata: &Metadata, prefix: &str) -> BTreeSet<String> {
    let packages = metadata.packages.iter();
    packages
        .filter(|package| folder(metadata, package).starts_with(prefix))
        .map(|package| package.name.to_string())
        .collect()
}

/// Every dependency, also of tests, as "folder -> name".
fn dependencies(metadata: &Metadata) -> Vec<(String, String)> {
    metadata
        .packages
        .iter()
        .flat_map(|package| {
            let from = folder(metadata, package);
            package.dependencies.iter().map(move |dependency| (from.clone(), dependency.name.clone()))
        })
        .collect()
}

#[test]
fn nothing_depends_on_a_service() {
    let metadata = metadata();
    let services = below(&metadata, "services/");
    assert_eq!(services.len(), 5);
    let found: Vec<_> = dependencies(&metadata).into_iter().filter(|(_, to)| services.contains(to)).collect();
    assert!(found.is_empty(), "services talk through the broker only: {found:?}");
}

#[test]
fn shared_crates_do_not_depend_on_the_cli_or_development_tools() {
    let metadata = metadata();
    let users: BTreeSet<String> =
        ["dev/", "cli"].iter().flat_map(|prefix| below(&metadata, prefix)).collect();
    let found: Vec<_> = dependencies(&metadata)
        .into_iter()
        .filter(|(from, to)| (from.starts_with("crates/") || from == "proto") && users.contains(to))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_one_service_uses_each_external_client() {
    for (library, door) in [("async-stripe", "services/billing"), ("lettre", "services/alerts")] {
        let strangers: Vec<_> = dependencies(&metadata())
            .into_iter()
            .filter(|(from, to)| to.starts_with(library) && from != door)
            .collect();
        assert!(strangers.is_empty(), "only {door} may use {library}: {strangers:?}");
    }
}

#[test]
fn the_architecture_names_exactly_the_crates_that_exist() {
    let metadata = metadata();
    let root = PathBuf::from(&metadata.workspace_root);
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md exists");
    let named: BTreeSet<String> = map
        .split(|c: char| !(c.is_ascii_alphanumeric() || "/-_".contains(c)))
        .filter(|word| {
            ["services/", "crates/", "dev/", "examples/"].iter().any(|prefix| word.starts_with(prefix))
        })
        .map(|word| word.split('/').take(2).collect::<Vec<_>>().join("/"))
        .filter(|word| !word.ends_with('/'))
        .collect();
    let there: BTreeSet<String> =
        metadata.packages.iter().map(|package| folder(&metadata, package)).collect();
    let invented: Vec<_> = named.iter().filter(|name| !root.join(name).join("Cargo.toml").exists()).collect();
    assert!(invented.is_empty(), "ARCHITECTURE.md names crates that do not exist: {invented:?}");
    let unnamed: Vec<_> = there.iter().filter(|name| name.contains('/') && !named.contains(*name)).collect();
    assert!(unnamed.is_empty(), "ARCHITECTURE.md does not name {unnamed:?}");
}
