//! What a file imports from its own crate: `use` items and paths. What only its tests import does not count: they may look into
//! everything.

use syn::{
    Attribute, File, Item, ItemFn, ItemImpl, ItemMod, ItemUse, Path, UseTree,
    visit::{self, Visit},
};

/// The paths that the file of this module names, from the crate's root on. The last parts name items rather than modules.
pub fn imports(module: &[String], file: &File) -> Vec<Vec<String>> {
    let mut imports = Imports { module: module.to_vec(), found: Vec::new() };
    imports.visit_file(file);
    imports.found
}

/// The modules that the file of this module declares for tests only.
pub fn test_modules(module: &[String], file: &File) -> Vec<Vec<String>> {
    let declared = file.items.iter().filter_map(|item| match item {
        Item::Mod(item) if is_for_tests(&item.attrs) => Some(item.ident.to_string()),
        _ => None,
    });
    declared.map(|name| module.iter().cloned().chain([name]).collect()).collect()
}

struct Imports {
    /// Where the visit is: the file's module, and the modules in it.
    module: Vec<String>,
    found: Vec<Vec<String>>,
}

impl Imports {
    /// Adds a path as it is written, where it is one of this crate.
    fn add(&mut self, written: &[String]) {
        let mut path = match written.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.module.clone(),
            Some("super") => self.module.iter().take(self.module.len().saturating_sub(1)).cloned().collect(),
            _ => return,
        };
        for part in written.iter().skip(1) {
            match part.as_str() {
                "super" => drop(path.pop()),
                "self" | "*" => {}
                part => path.push(part.to_owned()),
            }
        }
        self.found.push(path);
    }

    fn add_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Name(name) => self.add_name(before, name.ident.to_string()),
            UseTree::Rename(rename) => self.add_name(before, rename.ident.to_string()),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
        }
    }

    fn add_name(&mut self, before: &mut Vec<String>, name: String) {
        before.push(name);
        self.add(before);
        before.pop();
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let written: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&written);
        visit::visit_path(self, path);
    }
}

/// `#[cfg(test)]`, and what holds only beside it.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let of_tests = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<Path>().is_ok_and(|condition| condition.is_ident("test"))
    };
    attributes.iter().any(of_tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(module: &[&str], text: &str) -> Vec<String> {
        let module: Vec<_> = module.iter().map(|part| (*part).to_owned()).collect();
        imports(&module, &syn::parse_file(text).unwrap()).into_iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn groups_and_parents_are_resolved() {
        let text = "use std::fs; use crate::{a::{self, B}, c::*}; use super::d::E as F; use self::g::H;";
        assert_eq!(of(&["room", "file"], text), ["a", "a::B", "c", "room::d::E", "room::file::g::H"]);
    }

    #[test]
    fn a_path_in_the_code_is_an_import() {
        assert_eq!(of(&["room"], "fn f() -> crate::a::T { super::b::g() }"), ["a::T", "b::g"]);
    }

    #[test]
    fn what_tests_import_does_not_count() {
        assert!(
            of(&["room"], "#[cfg(test)] mod tests { use crate::a::B; } #[cfg(test)] use crate::c::D;")
                .is_empty()
        );
    }

    #[test]
    fn a_module_in_a_file_has_its_own_parent() {
        assert_eq!(of(&["room"], "mod inner { use super::super::a::B; }"), ["a::B"]);
    }
}
