//! What the documents promise is there: tests that invariants name, rooms, files, links, commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use seedbed::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a folder, by name.
fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    for folder in [".", "docs", "docs/adr"] {
        let found = names(folder)
            .into_iter()
            .filter(|name| name.ends_with(".md"));
        documents.extend(found.map(|name| Path::new(folder).join(name)));
    }
    assert!(documents.len() > 10, "{documents:?}");
    documents
}

/// Text in backquotes, outside of blocks of code.
fn quoted(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            prose += line;
            prose += "\n";
        }
    }
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Lines of blocks that are marked as `sh`.
fn shell_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shell = false;
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell {
            lines.push(
                line.split(" #")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            );
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[test]
fn every_test_that_an_invariant_names_exists() {
    let text = read("ARCHITECTURE.md");
    let tests: Vec<String> = quoted(&text)
        .into_iter()
        .filter(|q| q.contains(".rs::"))
        .collect();
    for test in &tests {
        let (file, function) = test.split_once("::").expect("file::function");
        let source = read(file);
        let head = format!("fn {function}(");
        let at = source
            .find(&head)
            .unwrap_or_else(|| panic!("{test} does not exist"));
        let before: Vec<&str> = source[..at].lines().rev().take(6).collect();
        let is_test = before
            .iter()
            .any(|line| line.contains("test]") || line.contains("test("));
        assert!(is_test, "{test} is not a test");
    }
    let invariants = text.lines().filter(|line| {
        let number = line.split_once(". **").map(|(number, _)| number);
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    });
    let invariants: Vec<&str> = invariants.collect();
    assert!(invariants.len() >= 16, "{invariants:?}");
    for (index, line) in invariants.iter().enumerate() {
        assert!(line.starts_with(&format!("{}. ", index + 1)), "{line}");
        let rest = &text[text.find(line).expect("it is there") + line.len()..];
        let end = rest
            .find(". **")
            .or_else(|| rest.find("\n## "))
            .expect("an end");
        let whole = format!("{line}{}", &rest[..end]);
        assert!(whole.contains(".rs::"), "no test is named: {line}");
    }
}

#[test]
fn every_room_is_listed_and_every_listed_room_exists() {
    let text = read("ARCHITECTURE.md");
    let rows = text.lines().filter(|line| line.starts_with("| `src/"));
    let listed: BTreeSet<String> = rows
        .flat_map(|row| quoted(row.split('|').nth(1).expect("a first column")))
        .map(|room| {
            room.trim_start_matches("src/")
                .trim_end_matches('/')
                .to_owned()
        })
        .collect();
    let rooms: BTreeSet<String> = names("src").into_iter().collect();
    assert_eq!(listed, rooms);
}

#[test]
fn paths_that_documents_name_exist() {
    let starts = [
        "src/",
        "tests/",
        "docs/",
        "examples/",
        "charts/",
        "config/",
        "build/",
    ];
    for document in documents() {
        for quote in quoted(&read(&document)) {
            let path = quote.split("::").next().unwrap_or_default();
            let is_path = starts.iter().any(|start| path.starts_with(start));
            if is_path && !path.contains([' ', '*', '<', '{']) {
                let found =
                    root().join(path).exists() || root().join(format!("{path}.rs")).exists();
                assert!(found, "{} names {path}", document.display());
            }
        }
    }
}

/// The name of a heading in a link, as code hosts make it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let folder = document.parent().expect("a folder");
            let target = if path.is_empty() {
                document.clone()
            } else {
                folder.join(path)
            };
            assert!(
                root().join(&target).exists(),
                "{}: {link}",
                document.display()
            );
            if !fragment.is_empty() {
                let headings: Vec<String> = read(&target)
                    .lines()
                    .filter(|l| l.starts_with('#'))
                    .map(anchor)
                    .collect();
                let found = headings.iter().any(|heading| heading == fragment);
                assert!(
                    found,
                    "{}: {link} is none of {headings:?}",
                    document.display()
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} links");
}

/// The words of one command: quotes taken away, variables kept.
fn words(command: &str) -> Vec<String> {
    let words = command.split_whitespace();
    words
        .map(|word| word.trim_matches('\'').to_owned())
        .collect()
}

#[test]
fn commands_of_documents_are_those_of_the_program_and_the_makefile() {
    let makefile = read("Makefile");
    let mut seen = BTreeSet::new();
    for document in documents() {
        for line in shell_lines(&read(&document)) {
            for command in line
                .split(['|', ';', '>'])
                .flat_map(|part| part.split("&&"))
            {
                let words = words(command);
                let Some(program) = words.first() else {
                    continue;
                };
                let place = format!("{}: {line}", document.display());
                match program.rsplit('/').next().expect("a name") {
                    "make" => {
                        let target = format!("\n{}:", words.get(1).expect("a target"));
                        assert!(makefile.contains(&target), "{place}");
                    }
                    "seedbed" => {
                        if let Err(error) = Cli::try_parse_from(&words) {
                            let asked = error.kind() == clap::error::ErrorKind::DisplayHelp;
                            assert!(asked, "{place}: {error}");
                        }
                    }
                    _ => continue,
                }
                seen.insert(format!(
                    "{program} {}",
                    words.get(1).map_or("", String::as_str)
                ));
            }
            for word in words(&line)
                .iter()
                .filter(|word| word.starts_with("examples/"))
            {
                assert!(root().join(word).exists(), "{}: {line}", document.display());
            }
        }
    }
    for wanted in ["make demo", "make test", "seedbed status", "seedbed render"] {
        assert!(
            seen.contains(wanted),
            "no document shows {wanted}: {seen:?}"
        );
    }
}

#[test]
fn the_readme_names_every_command() {
    let text = read("README.md");
    for command in Cli::command().get_subcommands() {
        let name = format!("seedbed {}", command.get_name());
        assert!(text.contains(&name), "README.md does not mention `{name}`");
    }
}

/// `--set` of the chart's values, as helm would refuse them.
#[test]
fn chart_values_of_documents_exist() {
    let values: serde_json::Value =
        serde_saphyr::from_str(&read("charts/seedbed/values.yaml")).expect("YAML");
    let mut seen = 0;
    for document in documents() {
        for line in shell_lines(&read(&document)) {
            let words = words(&line);
            for pair in words.windows(2).filter(|pair| pair[0] == "--set") {
                let key = pair[1].split('=').next().unwrap_or_default();
                let pointer = format!("/{}", key.replace('.', "/"));
                assert!(
                    values.pointer(&pointer).is_some(),
                    "{}: {key}",
                    document.display()
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "the installation by helm sets nothing");
}

#[test]
fn decisions_are_numbered_once_and_listed() {
    let architecture = read("ARCHITECTURE.md");
    let mut numbers = BTreeSet::new();
    for name in names("docs/adr") {
        let number: u16 = name[..4]
            .parse()
            .unwrap_or_else(|_| panic!("{name} has no number"));
        assert!(numbers.insert(number), "two decisions have number {number}");
        let text = read(Path::new("docs/adr").join(&name));
        assert!(
            text.starts_with(&format!("# {number}. ")),
            "{name} starts with another number"
        );
        assert!(text.lines().count() <= 60, "{name} is longer than a page");
        assert!(
            architecture.contains(&format!("docs/adr/{name}")),
            "{name} is not listed"
        );
    }
}
