//! What a machine can check about the code itself: the house rules, held by a test.
//!
//! `BLESS=1 cargo test -p gemba-tests tidy` writes the generated parts of `docs/` anew.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have before its tests.
const LINES_MAX: usize = 500;

/// Words the README may have.
const README_WORDS_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust source file, relative to the root, in order.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join("crates"), root().join("examples"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The first sentence of the file's own documentation.
fn caption(name: &str, text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("//!") && line.trim() != "//!");
    let paragraph: Vec<_> = lines.map(|line| line.trim_start_matches("//!").trim()).collect();
    assert!(!paragraph.is_empty(), "{name} does not open with a `//!` sentence that says what it is for");
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |dot| dot + 1);
    paragraph[..end].to_owned()
}

/// Compares a page with what it should say; with `BLESS=1` writes it instead.
fn compare(path: &str, expected: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(root().join(path), expected).unwrap();
    }
    assert!(read(path) == expected, "{path} is out of date; run `just docs`");
}

#[test]
fn the_map_lists_every_file_with_its_caption() {
    let mut map = String::new();
    let mut folder = String::new();
    for (name, text) in sources() {
        let depth = if name.starts_with("tests/") { 1 } else { 2 };
        let here = name.split('/').take(depth).collect::<Vec<_>>().join("/");
        if here != folder {
            folder = here.clone();
            write!(map, "\n### `{folder}`\n\n| file | what it is for |\n| --- | --- |\n").unwrap();
        }
        let file = name.strip_prefix(&format!("{folder}/")).unwrap();
        writeln!(map, "| [`{file}`](../{name}) | {} |", caption(&name, &text).replace('|', "\\|")).unwrap();
    }
    let page = read("docs/architecture.md");
    let begin = page.find("<!-- map: begin -->").expect("the page has a place for the map");
    let end = page.find("<!-- map: end -->").expect("the map has an end");
    let expected = format!("{}<!-- map: begin -->\n{map}\n{}", &page[..begin], &page[end..]);
    compare("docs/architecture.md", &expected);
}

#[test]
fn the_page_of_metrics_is_the_table() {
    compare("docs/metrics.md", &gemba::metric::markdown());
}

#[test]
fn only_the_cells_share_memory() {
    let page = read("docs/architecture.md");
    let section =
        page.split("## Cells").nth(1).expect("the page lists the cells").split("\n## ").next().unwrap();
    let listed: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| [`")?.split('`').next().map(str::to_owned))
        .collect();
    let found: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(name, text)| {
            text.contains(concat!("clippy::", "disallowed_types")) && !name.starts_with("tests/")
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, listed, "the files that may, and the list of the cells");
}

#[test]
fn each_crate_imports_only_what_the_house_allows() {
    let allowed: &[(&str, &[&str])] = &[
        ("crates/config", &[]),
        ("crates/core", &[]),
        ("crates/kernel", &["gemba-core"]),
        ("crates/flow", &["gemba-config", "gemba-core", "gemba-kernel"]),
        ("crates/observe", &["gemba-core"]),
        ("crates/alert", &["gemba-core", "gemba-kernel"]),
        ("crates/http", &[]),
        ("crates/inspect", &["gemba-core", "gemba-http", "gemba-kernel"]),
        ("crates/store", &["gemba-core", "gemba-flow", "gemba-kernel"]),
        ("crates/process", &["gemba-core", "gemba-kernel"]),
        ("crates/sim", &["gemba-core"]),
        (
            "crates/gemba",
            &[
                "gemba-alert",
                "gemba-config",
                "gemba-core",
                "gemba-flow",
                "gemba-http",
                "gemba-inspect",
                "gemba-kernel",
                "gemba-observe",
                "gemba-process",
                "gemba-sim",
                "gemba-store",
            ],
        ),
        ("crates/cli", &["gemba", "gemba-payment"]),
        // Its tests import itself, with every feature.
        ("examples/deployment", &["gemba", "gemba-deployment"]),
        ("examples/payment", &["gemba"]),
        ("tests", &["gemba"]),
        ("tests/conformance", &["gemba-core", "gemba-kernel"]),
        ("tests/experiments", &["gemba", "gemba-alert", "gemba-core", "gemba-observe"]),
    ];
    for (folder, allowed) in allowed {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).expect("a section of dependencies");
        for line in dependencies.lines() {
            let name = line.split(['.', ' ', '=']).next().unwrap();
            if name.starts_with("gemba") {
                assert!(allowed.contains(&name), "{folder} imports {name}");
            }
            if name == "ractor" {
                assert!(
                    ["crates/kernel", "tests", "tests/experiments"].contains(folder),
                    "{folder} imports ractor; only kernel does"
                );
            }
            if *folder == "crates/core" {
                assert!(!["tokio", "ractor", "tracing", "metrics"].contains(&name), "core imports {name}");
            }
        }
    }
}

#[test]
fn a_crates_own_bans_include_the_roots() {
    let bans = |path: &str| -> BTreeSet<String> {
        read(path).lines().filter(|line| line.contains("path =")).map(|line| line.trim().to_owned()).collect()
    };
    let of_root = bans(".clippy.toml");
    for folder in [
        "crates/core",
        "crates/kernel",
        "crates/flow",
        "crates/observe",
        "crates/inspect",
        "crates/sim",
        "crates/gemba",
    ] {
        let path = format!("{folder}/.clippy.toml");
        if root().join(&path).exists() {
            let own = bans(&path);
            let missing: Vec<_> = of_root
                .iter()
                // The ban on unbounded channels names a crate that core cannot call.
                .filter(|ban| !own.contains(*ban) && !ban.contains("tokio::"))
                .collect();
            assert!(missing.is_empty(), "{path} replaces the root's file and lacks {missing:?}");
        }
    }
}

#[test]
fn files_hold_one_idea_each() {
    for (name, text) in sources() {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(
            lines <= LINES_MAX || name.starts_with("tests/") || name.contains("/tests/"),
            "{name} has {lines} lines"
        );
    }
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[", "ignore")];
    for (name, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{name} contains {mark}");
        }
    }
}

#[test]
fn links_lead_somewhere_and_the_readme_is_short() {
    let mut pages = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    for page in pages {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let folder = Path::new(&page).parent().unwrap();
            assert!(
                root().join(folder).join(target).exists(),
                "{page} links to {target}, which does not exist"
            );
        }
    }
    let words = read("README.md").split_whitespace().count();
    assert!(words <= README_WORDS_MAX, "the README has {words} words");
}

#[test]
fn the_page_of_trouble_has_every_alert() {
    let (rules, page) = (read("docs/alerts.yml"), read("docs/trouble.md"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(
            page.contains(&format!("`{alert}`")),
            "docs/trouble.md does not say what to do about {alert}"
        );
    }
}

#[test]
fn the_seeds_page_counts_its_rows() {
    let page = read("docs/seeds.md");
    let is_row = |line: &&str| line.starts_with("| S") && line.split(" | ").count() == 3;
    let states: Vec<_> = page
        .lines()
        .filter(is_row)
        .map(|line| line.rsplit(" | ").next().unwrap().trim_end_matches(" |"))
        .collect();
    let mut expected = String::new();
    for line in page.lines() {
        let heads = ["here", "part, the rest not", "not", "all"];
        let counted = |head: &str| match head {
            "all" => states.len(),
            "part, the rest not" => states.iter().filter(|state| state.starts_with("part: ")).count(),
            _ => states.iter().filter(|state| state.starts_with(&format!("{head}: "))).count(),
        };
        match (line.strip_prefix("| "), line.rsplit_once(" | ")) {
            (Some(cell), Some((words, number))) if number.trim_end_matches(" |").parse::<u32>().is_ok() => {
                let head = heads.into_iter().find(|head| cell.starts_with(*head)).expect("a known state");
                writeln!(expected, "{words} | {} |", counted(head)).unwrap();
            }
            _ => writeln!(expected, "{line}").unwrap(),
        }
    }
    compare("docs/seeds.md", &expected);
}

#[test]
fn what_the_seeds_page_names_exists() {
    for line in
        read("docs/seeds.md").lines().filter(|line| line.contains("here: ") || line.contains("part: "))
    {
        let after = line.split_once("here: ").or_else(|| line.split_once("part: ")).unwrap().1;
        let file = after.trim_start_matches('`').split([' ', ';', '`', ',', '|', ':']).next().unwrap();
        assert!(root().join(file).exists(), "{file} does not exist, named in: {line}");
    }
}
