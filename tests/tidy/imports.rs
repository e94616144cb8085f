//! Which file of a crate imports which: no two may do so in a circle.
//!
//! A path counts wherever it stands, in a `use` or in an expression, outside of modules of tests. A `mod`
//! declaration is no import. Nor is a re-export by a module of its own child, unless a file below the module
//! imports the child's item through it; for others, an import of a re-exported item is one of the child.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{Kind, Token, closing};

/// One file of a crate, by the path of its module.
pub struct File<'a> {
    /// Where it is, from the root of the repository.
    pub path: &'a str,
    /// Its modules from the crate's root; none for the root itself.
    pub module: Vec<String>,
    pub code: &'a [Token<'a>],
    pub in_tests: &'a [bool],
}

/// A path in a file, with the module in which it stands.
struct Use {
    path: Vec<String>,
    name: String,
    context: Vec<String>,
    re_export: bool,
    in_statement: bool,
}

/// A crate's modules, and what they re-export of their children.
struct Tree {
    name: String,
    modules: BTreeMap<Vec<String>, usize>,
    re_exports: BTreeMap<(usize, String), usize>,
}

/// For each file in a circle, the files of the same circle that it imports.
pub fn circles(crate_name: &str, files: &[File<'_>]) -> BTreeMap<String, Vec<String>> {
    let edges = edges(crate_name, files);
    let reach: Vec<BTreeSet<usize>> = (0..files.len()).map(|from| reached(&edges, from)).collect();
    let mut found = BTreeMap::new();
    for (from, file) in files.iter().enumerate() {
        let circle = edges[from].iter().filter(|to| reach[**to].contains(&from));
        let names: Vec<_> = circle.map(|to| files[*to].path.to_owned()).collect();
        if !names.is_empty() {
            found.insert(file.path.to_owned(), names);
        }
    }
    found
}

fn reached(edges: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        open.extend(edges[next].iter().filter(|to| seen.insert(**to)));
    }
    seen
}

fn edges(crate_name: &str, files: &[File<'_>]) -> Vec<BTreeSet<usize>> {
    let modules = files
        .iter()
        .enumerate()
        .map(|(index, file)| (file.module.clone(), index))
        .collect();
    let mut tree = Tree {
        name: crate_name.to_owned(),
        modules,
        re_exports: BTreeMap::new(),
    };
    let uses: Vec<Vec<Use>> = files.iter().map(uses).collect();
    for (index, uses) in uses.iter().enumerate() {
        for re_export in uses.iter().filter(|used| used.re_export) {
            if let Some((to, _)) = tree.file(re_export)
                && to != index
                && files[to].module.starts_with(&files[index].module)
            {
                tree.re_exports.insert((index, re_export.name.clone()), to);
            }
        }
    }
    let mut edges = vec![BTreeSet::new(); files.len()];
    for (from, uses) in uses.iter().enumerate() {
        for used in uses {
            let Some((mut to, rest)) = tree.file(used) else {
                continue;
            };
            if tree.re_exports.get(&(from, used.name.clone())) == Some(&to) && used.re_export {
                continue;
            }
            while let Some(child) = rest
                .first()
                .and_then(|name| tree.re_exports.get(&(to, name.clone())))
            {
                if files[from].module.starts_with(&files[to].module) {
                    edges[from].insert(to);
                    edges[to].insert(*child);
                }
                to = *child;
            }
            edges[from].insert(to);
        }
    }
    for (index, edges) in edges.iter_mut().enumerate() {
        edges.remove(&index);
    }
    edges
}

impl Tree {
    /// The file that a path leads to, and what of the path is left.
    fn file(&self, used: &Use) -> Option<(usize, Vec<String>)> {
        let mut rest = used.path.as_slice();
        let mut module = used.context.clone();
        match rest.first()?.as_str() {
            name if name == "crate" || name == self.name => {
                module.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            name => {
                let child: Vec<_> = module
                    .iter()
                    .map(String::as_str)
                    .chain([name])
                    .map(str::to_owned)
                    .collect();
                self.modules.get(&child)?;
            }
        }
        while !self.modules.contains_key(&module) {
            module.pop()?; // a module within a file
        }
        while let Some(name) = rest.first() {
            module.push(name.clone());
            if !self.modules.contains_key(&module) {
                module.pop();
                break;
            }
            rest = &rest[1..];
        }
        Some((*self.modules.get(&module)?, rest.to_vec()))
    }
}

/// Every path of a file that may lead to another file of its crate.
fn uses(file: &File<'_>) -> Vec<Use> {
    let code = file.code;
    let (mut found, mut inner) = (Vec::new(), Vec::<(String, usize)>::new());
    let mut at = 0;
    while at < code.len() {
        inner.retain(|(_, end)| *end > at);
        let context = || {
            file.module
                .iter()
                .chain(inner.iter().map(|(name, _)| name))
                .cloned()
                .collect()
        };
        if file.in_tests[at] || code[at].kind != Kind::Word {
            at += 1;
        } else if code[at].is("use") {
            let end = (at..code.len())
                .find(|index| code[*index].is(";"))
                .unwrap_or(code.len());
            let re_export = at > 0 && (code[at - 1].is("pub") || code[at - 1].is(")"));
            let mut paths = Vec::new();
            leaves(&code[at + 1..end], &mut 0, &[], &mut paths);
            found.extend(paths.into_iter().map(|(path, name)| Use {
                path,
                name,
                context: context(),
                re_export,
                in_statement: true,
            }));
            at = end;
        } else if code[at].is("mod") && code.get(at + 2).is_some_and(|token| token.is("{")) {
            inner.push((code[at + 1].text.to_owned(), closing(code, at + 2)));
            at += 3;
        } else {
            let path = path(code, at);
            let length = path.len();
            if length > 1 && !(at > 0 && (code[at - 1].is(":") || code[at - 1].is("."))) {
                let name = path[length - 1].clone();
                let context = context();
                found.push(Use {
                    path,
                    name,
                    context,
                    re_export: false,
                    in_statement: false,
                });
            }
            at += 1;
        }
    }
    // `use crate::kafka;` and then `kafka::Client`: the head is a name of another module, no child.
    let imported: BTreeSet<_> = found
        .iter()
        .filter(|used| used.in_statement)
        .map(|used| used.name.clone())
        .collect();
    found.retain(|used| used.in_statement || !imported.contains(&used.path[0]));
    found
}

/// The words of `a::b::c` from `at` on.
fn path(code: &[Token<'_>], mut at: usize) -> Vec<String> {
    let mut words = Vec::new();
    while code.get(at).is_some_and(|token| token.kind == Kind::Word) {
        words.push(code[at].text.to_owned());
        if !(code.get(at + 1).is_some_and(|t| t.is(":"))
            && code.get(at + 2).is_some_and(|t| t.is(":")))
        {
            break;
        }
        at += 3;
    }
    words
}

/// The leaves of a `use` tree with the names that they get.
fn leaves(
    code: &[Token<'_>],
    at: &mut usize,
    before: &[String],
    found: &mut Vec<(Vec<String>, String)>,
) {
    let mut path = before.to_vec();
    let (mut name, mut any) = (None, false);
    while *at < code.len() {
        let token = code[*at];
        *at += 1;
        match token.text {
            "{" => {
                loop {
                    leaves(code, at, &path, found);
                    *at += 1;
                    if *at > code.len() || code[*at - 1].is("}") {
                        break;
                    }
                }
                return;
            }
            "," | "}" => {
                *at -= 1;
                break;
            }
            ":" => {}
            "as" => {
                name = code.get(*at).map(|token| token.text.to_owned());
                *at += 1;
            }
            "self" if !path.is_empty() => any = true,
            text => {
                path.push(text.to_owned());
                any = true;
            }
        }
    }
    if any {
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        found.push((path, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{in_tests, tokens};

    fn circle(files: &[(&str, &str)]) -> Vec<String> {
        let tokens: Vec<_> = files.iter().map(|(_, text)| tokens(text)).collect();
        let marked: Vec<_> = tokens.iter().map(|tokens| in_tests(tokens)).collect();
        let file = |index: usize| File {
            path: files[index].0,
            module: files[index]
                .0
                .split("::")
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            code: &tokens[index],
            in_tests: &marked[index],
        };
        let files: Vec<_> = (0..files.len()).map(file).collect();
        circles("house", &files).into_keys().collect()
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        let root = ("", "mod a; mod b; mod c;");
        assert_eq!(
            circle(&[
                root,
                ("a", "use crate::b::B;"),
                ("b", "fn f() { super::a::g() }")
            ]),
            ["a", "b"]
        );
        assert_eq!(
            circle(&[
                root,
                ("a", "use crate::{c, b::{self, B as D}};"),
                ("b", "use house::c::C;"),
                ("c", "")
            ]),
            [""; 0]
        );
        assert_eq!(
            circle(&[
                root,
                ("a", "use crate::b;"),
                ("b", "#[cfg(test)] mod tests { use crate::a::A; }")
            ]),
            [""; 0]
        );
    }

    #[test]
    fn a_re_export_is_an_import_where_a_child_goes_through_it() {
        let parent = ("a", "mod b; mod c; pub use b::B; pub struct A;");
        let root = ("", "mod a; mod d;");
        assert_eq!(
            circle(&[
                root,
                parent,
                ("a::b", "use super::A;"),
                ("d", "use crate::a::B;")
            ]),
            [""; 0]
        );
        let through = circle(&[
            root,
            parent,
            ("a::b", "use super::A;"),
            ("a::c", "use super::B;"),
        ]);
        assert_eq!(through, ["a", "a::b"]);
        let child = circle(&[
            root,
            ("a", "mod b; fn f() { b::g() }"),
            ("a::b", "use super::f;"),
        ]);
        assert_eq!(child, ["a", "a::b"]);
    }
}
