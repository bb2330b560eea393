//! `cargo xtask rooms`: the modules of each crate, what they import from each other, and the circles among them.
//!
//! A room is a module directly under the crate's root: a file, or a folder with its files. An arrow is one room that imports
//! from another. A circle is a set of files that import each other in a loop: none of them can be read, tested or moved alone.
//! A folder's first file and its own files belong together and make no circle. What is only for tests does not count.
//!
//! Rooms that import each other in a loop are listed too, but are no error: `store` knows the types that it stores.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use petgraph::{
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
};
use stack::Project;

use self::imports::{imports, test_modules};

/// Where crates are.
const FOLDERS: [&str; 4] = ["services", "crates", "dev", "."];

/// Arguments of `cargo xtask rooms`.
#[derive(Debug, Args)]
pub struct Rooms {
    /// Only this crate, by its folder's name.
    only: Option<String>,
    /// List the arrows between rooms.
    #[arg(long)]
    arrows: bool,
}

impl Rooms {
    /// Prints a line for each crate; fails where there is a circle.
    pub fn run(&self) -> Result<ExitCode> {
        let plans = plans(Project::find()?.root())?;
        println!("{:<12} {:>5} {:>5} {:>6} {:>7}", "crate", "files", "rooms", "arrows", "circles");
        let mut circles_all = 0;
        for plan in plans.iter().filter(|plan| self.only.as_ref().is_none_or(|only| *only == plan.name)) {
            let circles = plan.circles();
            circles_all += circles.len();
            let (files, rooms, arrows) = (plan.files.len(), plan.rooms().len(), plan.arrows());
            println!("{:<12} {files:>5} {rooms:>5} {:>6} {:>7}", plan.name, arrows.len(), circles.len());
            for circle in circles {
                println!("    circle: {}", circle.join(", "));
            }
            for rooms in loops(arrows.iter().map(|(from, to)| (from, to))) {
                println!(
                    "    rooms that know each other: {}",
                    rooms.into_iter().copied().collect::<Vec<_>>().join(", ")
                );
            }
            for (from, to) in arrows.iter().filter(|_| self.arrows) {
                println!("    {from} -> {to}");
            }
        }
        Ok(if circles_all == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The modules of a crate.
#[derive(Debug)]
pub struct Plan {
    /// The crate's folder.
    pub name: String,
    /// A module's path without `crate`, and the modules that it imports from.
    files: BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
}

/// The plans of all crates below the root.
pub fn plans(root: &Path) -> Result<Vec<Plan>> {
    let mut plans = Vec::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        let mut crates = children(&folder)?;
        crates.retain(|path| path.join("Cargo.toml").is_file() && path.join("src").is_dir());
        for path in crates {
            plans.push(Plan::read(&path)?);
        }
    }
    Ok(plans)
}

impl Plan {
    fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let source = path.join("src");
        let mut sources = Vec::new();
        walk(&source, &mut sources)?;
        let modules: BTreeMap<_, _> =
            sources.into_iter().map(|file| Ok((module(&source, &file)?, file))).collect::<Result<_>>()?;
        let mut parsed = BTreeMap::new();
        for (module, file) in &modules {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let file = syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
            parsed.insert(module, file);
        }
        let of_tests: Vec<_> = parsed.iter().flat_map(|(module, file)| test_modules(module, file)).collect();
        let mut files = BTreeMap::new();
        for (module, file) in parsed {
            if of_tests.iter().any(|tests| module.starts_with(tests)) {
                continue;
            }
            let targets = imports(module, &file).into_iter().filter_map(|mut path| {
                // What is imported from a module is named after it.
                while !path.is_empty() && !modules.contains_key(&path) {
                    path.pop();
                }
                let is_other = !path.is_empty() && !path.starts_with(module) && !module.starts_with(&path);
                is_other.then_some(path)
            });
            files.insert(module.clone(), targets.collect());
        }
        files.remove(&Vec::new());
        Ok(Self { name, files })
    }

    fn rooms(&self) -> BTreeSet<&str> {
        self.files.keys().filter_map(|module| Some(module.first()?.as_str())).collect()
    }

    /// Pairs of rooms of which the first imports from the second.
    fn arrows(&self) -> BTreeSet<(&str, &str)> {
        let pairs =
            self.files.iter().flat_map(|(module, targets)| targets.iter().map(move |to| (module, to)));
        let rooms = pairs.filter_map(|(from, to)| Some((from.first()?.as_str(), to.first()?.as_str())));
        rooms.filter(|(from, to)| from != to).collect()
    }

    /// Files that import each other in a loop.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let files =
            self.files.iter().flat_map(|(module, targets)| targets.iter().map(move |to| (module, to)));
        loops(files).into_iter().map(|circle| circle.iter().map(|path| path.join("::")).collect()).collect()
    }
}

/// Sets of more than one node that reach each other.
fn loops<'a, N: Ord + 'a>(edges: impl Iterator<Item = (&'a N, &'a N)>) -> Vec<Vec<&'a N>> {
    let edges: Vec<_> = edges.collect();
    let nodes: BTreeSet<&N> = edges.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let nodes: Vec<&N> = nodes.into_iter().collect();
    let number = |node: &N| NodeIndex::<usize>::new(nodes.binary_search(&node).unwrap_or_default());
    let graph =
        DiGraph::<(), (), usize>::from_edges(edges.iter().map(|(from, to)| (number(from), number(to))));
    let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
    let mut circles: Vec<Vec<&N>> = circles
        .map(|circle| circle.into_iter().filter_map(|index| nodes.get(index.index()).copied()).collect())
        .collect();
    circles.iter_mut().for_each(|circle| circle.sort());
    circles
}

/// The path of the module that a file holds.
fn module(source: &Path, file: &Path) -> Result<Vec<String>> {
    let relative = file.strip_prefix(source).context("a file is below its folder")?.with_extension("");
    let mut path: Vec<_> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        path.pop();
    }
    Ok(path)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for path in children(folder)? {
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut children = read().with_context(|| format!("cannot read {}", folder.display()))?;
    children.sort();
    Ok(children)
}
