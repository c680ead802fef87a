//! The modules of a crate: their files, what they define and import, and what
//! their code refers to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use syn::Item;

use crate::references::{Import, References, is_test};

/// A module's place in the crate: the names that lead to it from the root.
pub type Place = Vec<String>;

/// How deep imports of imports are followed.
const DEPTH: usize = 16;

/// One module.
pub struct Module {
    pub file: PathBuf,
    /// What it defines itself.
    items: BTreeSet<String>,
    imports: Vec<Import>,
    /// The paths in its code, as they are written.
    pub paths: BTreeSet<Vec<String>>,
}

/// The modules of a crate.
pub struct Tree {
    pub modules: BTreeMap<Place, Module>,
}

/// What a path leads to.
#[derive(Clone)]
enum Found {
    Module(Place),
    /// Something that this module defines.
    Item(Place),
}

impl Tree {
    /// Reads a crate from its root file; `read` gives a file's text, if it exists.
    pub fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut tree = Self { modules: BTreeMap::new() };
        let folder = root.parent().unwrap_or(Path::new(""));
        tree.add_file(&Vec::new(), root, folder, read);
        tree
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// `folder` is where the files of the module's children lie.
    fn add_file(
        &mut self,
        place: &Place,
        file: &Path,
        folder: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let text = read(file).unwrap_or_else(|| panic!("{} cannot be read", file.display()));
        let parsed = syn::parse_file(&text);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add(place, file, folder, &parsed.items, read);
    }

    fn add(
        &mut self,
        place: &Place,
        file: &Path,
        folder: &Path,
        items: &[Item],
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let References { imports, paths } = References::of(items);
        let module = Module {
            file: file.to_owned(),
            items: items.iter().filter_map(name_of).collect(),
            imports,
            paths,
        };
        self.modules.insert(place.clone(), module);
        for item in items {
            let Item::Mod(child) = item else { continue };
            if is_test(&child.attrs) {
                continue;
            }
            let moved = child.attrs.iter().any(|attribute| attribute.path().is_ident("path"));
            assert!(!moved, "{}: a module with a #[path] is not understood", file.display());
            let name = child.ident.to_string();
            let child_place = [&place[..], std::slice::from_ref(&name)].concat();
            let child_folder = folder.join(&name);
            if let Some((_, items)) = &child.content {
                self.add(&child_place, file, &child_folder, items, read);
                continue;
            }
            let candidates = [folder.join(format!("{name}.rs")), child_folder.join("mod.rs")];
            let found = candidates.iter().find(|file| read(file).is_some());
            let found = found.unwrap_or_else(|| panic!("{}: no file for {name}", file.display()));
            self.add_file(&child_place, found, &child_folder, read);
        }
    }

    /// The module that defines what a path names, seen from a module of this
    /// crate; nothing if it names something of another crate.
    pub fn definition(&self, from: &Place, path: &[String]) -> Option<Place> {
        match self.find(from, path, DEPTH)? {
            Found::Module(place) | Found::Item(place) => Some(place),
        }
    }

    fn find(&self, from: &Place, path: &[String], depth: usize) -> Option<Found> {
        let depth = depth.checked_sub(1)?;
        let (first, mut rest) = path.split_first()?;
        let mut found = match first.as_str() {
            "crate" => Found::Module(Vec::new()),
            "self" => Found::Module(from.clone()),
            "super" => Found::Module(from.split_last()?.1.to_vec()),
            name => self.member(from, name, rest.is_empty(), depth)?,
        };
        while let (Found::Module(place), Some((name, after))) = (&found, rest.split_first()) {
            found = if name == "super" {
                Found::Module(place.split_last()?.1.to_vec())
            } else {
                // What is not seen, such as an item that a macro defines, is
                // taken to be there.
                let place = place.clone();
                self.member(&place, name, after.is_empty(), depth).unwrap_or(Found::Item(place))
            };
            rest = after;
        }
        Some(found)
    }

    /// What a module calls by a name: a child, an item, or something imported.
    /// The same name may stand for a module and for an item; within a path
    /// only the first will do.
    fn member(&self, place: &Place, name: &str, last: bool, depth: usize) -> Option<Found> {
        let module = self.modules.get(place)?;
        let child = [&place[..], &[name.to_owned()]].concat();
        if self.modules.contains_key(&child) {
            return Some(Found::Module(child));
        }
        let imports = module.imports.iter();
        let found: Vec<Found> = imports
            .filter(|import| import.name.as_deref() == Some(name))
            .filter(|import| import.path[..] != [name.to_owned()])
            .filter_map(|import| self.find(place, &import.path, depth))
            .collect();
        let wanted = found.iter().find(|found| last || matches!(found, Found::Module(_)));
        if let Some(found) = wanted.or(found.first()) {
            return Some(found.clone());
        }
        if module.items.contains(name) {
            return Some(Found::Item(place.clone()));
        }
        let globs = module.imports.iter().filter(|import| import.name.is_none());
        globs
            .filter_map(|glob| match self.find(place, &glob.path, depth)? {
                Found::Module(other) if other != *place => {
                    self.member(&other, name, last, depth.checked_sub(1)?)
                }
                _ => None,
            })
            .next()
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
