//! What the code of one module refers to: its imports, and every path in it,
//! those in macros and attributes included.

use std::collections::BTreeSet;

use syn::{
    Attribute, ImplItem, Item, ItemUse, Macro, Meta, UseTree,
    buffer::{Cursor, TokenBuffer},
    visit::{self, Visit},
};

/// A `use`.
#[derive(Clone)]
pub struct Import {
    /// What it is called here; nothing for a glob.
    pub name: Option<String>,
    /// Where it is from.
    pub path: Vec<String>,
}

/// What the code of one module refers to.
#[derive(Default)]
pub struct References {
    pub imports: Vec<Import>,
    pub paths: BTreeSet<Vec<String>>,
}

impl References {
    /// Of a module with these items. Modules within it speak for themselves.
    pub fn of(items: &[Item]) -> Self {
        let mut references = Self::default();
        for item in items.iter().filter(|item| !matches!(item, Item::Mod(_))) {
            references.visit_item(item);
        }
        references
    }

    fn import(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        let (name, path) = match tree {
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree);
                }
                return;
            }
            UseTree::Path(path) => return self.import(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) if name.ident == "self" => {
                (before.last().cloned(), before.to_vec())
            }
            UseTree::Name(name) => (Some(name.ident.to_string()), with(name.ident.to_string())),
            UseTree::Rename(renamed) if renamed.ident == "self" => {
                (Some(renamed.rename.to_string()), before.to_vec())
            }
            UseTree::Rename(renamed) => {
                (Some(renamed.rename.to_string()), with(renamed.ident.to_string()))
            }
            UseTree::Glob(_) => (None, before.to_vec()),
        };
        self.paths.insert(path.clone());
        self.imports.push(Import { name, path });
    }

    /// The paths in what only a macro understands.
    fn scan(&mut self, mut cursor: Cursor<'_>) {
        while !cursor.eof() {
            if let Some((ident, after)) = cursor.ident() {
                let mut path = vec![ident.to_string()];
                cursor = after;
                while let Some((ident, after)) = double_colon(cursor).and_then(Cursor::ident) {
                    path.push(ident.to_string());
                    cursor = after;
                }
                self.paths.insert(path);
            } else if let Some((inside, _, _, after)) = cursor.any_group() {
                self.scan(inside);
                cursor = after;
            } else if let Some((_, after)) = cursor.token_tree() {
                cursor = after;
            }
        }
    }
}

fn double_colon(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, after) = cursor.punct()?;
    let (second, after) = after.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(after)
}

impl<'a> Visit<'a> for References {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs[..],
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        self.paths.insert(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a Macro) {
        self.scan(TokenBuffer::new2(call.tokens.clone()).begin());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.scan(TokenBuffer::new2(list.tokens.clone()).begin());
        }
        visit::visit_attribute(self, attribute);
    }
}

/// Whether an item is there for tests only.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg") && list.is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
