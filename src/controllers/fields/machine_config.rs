//! Files and commands that the user adds to the machine config.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zeroize::Zeroizing;

use super::{Checker, absolute_path, show};
use crate::crd::{ContentSource, KeySelector, MachineConfig, MachineConfigFormat, MachineFileSpec};
use crate::domain::UserFile;

/// Largest user data when the spec does not say, in bytes: what fits into a Secret (1 MiB) beside
/// its other keys.
const DEFAULT_SIZE_BUDGET_BYTES: i64 = 786_432;

/// Kind of an object that holds contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentKind {
    ConfigMap,
    Secret,
}

/// One key of a Secret or ConfigMap in the namespace of the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentRef {
    pub kind: ContentKind,
    pub name: String,
    pub key: String,
}

impl fmt::Display for ContentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ContentKind::ConfigMap => "ConfigMap",
            ContentKind::Secret => "Secret",
        };
        write!(f, "key {:?} of {kind} {:?}", self.key, self.name)
    }
}

/// Contents that were read for [`content_references`]. What does not exist is left out.
pub type Contents = BTreeMap<ContentRef, Zeroizing<Vec<u8>>>;

/// The machine config with its defaults applied and its contents read.
#[derive(Debug)]
pub struct MachineConfigFields {
    pub format: MachineConfigFormat,
    pub files: Vec<UserFile>,
    pub pre_commands: Vec<String>,
    pub post_commands: Vec<String>,
    pub os_preparation: bool,
    pub size_budget_bytes: usize,
}

/// The keys of Secrets and ConfigMaps that have to be read before the spec can be resolved.
pub fn content_references(given: Option<&MachineConfig>) -> BTreeSet<ContentRef> {
    let files = given.and_then(|config| config.files.as_deref());
    let sources = files
        .unwrap_or_default()
        .iter()
        .filter_map(|file| file.content_from.as_ref());
    sources.flat_map(source_references).collect()
}

fn source_references(source: &ContentSource) -> Vec<ContentRef> {
    let reference = |kind, selector: &Option<KeySelector>| {
        selector.as_ref().map(|selector| ContentRef {
            kind,
            name: selector.name.clone(),
            key: selector.key.clone(),
        })
    };
    [
        reference(ContentKind::Secret, &source.secret_key_ref),
        reference(ContentKind::ConfigMap, &source.config_map_key_ref),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Checks the machine config and puts the contents in.
pub fn machine_config(
    checker: &mut Checker,
    path: &str,
    given: Option<&MachineConfig>,
    contents: &Contents,
) -> MachineConfigFields {
    let given = given.cloned().unwrap_or_default();
    if given.format.is_none() {
        checker.note_default(&format!("{path}.format"), &"CloudConfig");
    }
    let budget_path = format!("{path}.sizeBudgetBytes");
    let budget = checker.or_default(
        &budget_path,
        given.size_budget_bytes,
        DEFAULT_SIZE_BUDGET_BYTES,
    );
    checker.within(&budget_path, budget, 4_096, 1_048_576);
    MachineConfigFields {
        format: given.format.unwrap_or_default(),
        files: files(checker, &format!("{path}.files"), given.files, contents),
        pre_commands: commands(checker, &format!("{path}.preCommands"), given.pre_commands),
        post_commands: commands(
            checker,
            &format!("{path}.postCommands"),
            given.post_commands,
        ),
        os_preparation: checker.or_default(
            &format!("{path}.osPreparation"),
            given.os_preparation,
            false,
        ),
        size_budget_bytes: usize::try_from(budget).unwrap_or_default(),
    }
}

fn commands(checker: &mut Checker, path: &str, given: Option<Vec<String>>) -> Vec<String> {
    let given = given.unwrap_or_default();
    for (index, command) in given.iter().enumerate() {
        if command.trim().is_empty() || command.contains('\0') {
            checker.invalid(
                format!("{path}[{index}]"),
                "is not a command; write a line of shell or remove it",
            );
        }
    }
    given
}

fn files(
    checker: &mut Checker,
    path: &str,
    given: Option<Vec<MachineFileSpec>>,
    contents: &Contents,
) -> Vec<UserFile> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for (index, file) in given.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{path}[{index}]");
        absolute_path(checker, &format!("{at}.path"), &file.path);
        if !seen.insert(file.path.clone()) {
            let message = format!("{} is written twice; remove one", show(&file.path));
            checker.invalid(format!("{at}.path"), message);
        }
        let mode = permissions(checker, &at, file.permissions.as_deref());
        let owner = owner(checker, &at, file.owner.clone());
        let content = content(checker, &at, &file, contents);
        if let (Some(mode), Some(content)) = (mode, content) {
            files.push(UserFile {
                path: file.path,
                mode,
                owner,
                content,
            });
        }
    }
    files
}

fn permissions(checker: &mut Checker, at: &str, given: Option<&str>) -> Option<u32> {
    let text = given.unwrap_or("0644");
    let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits);
    if mode.is_none() {
        let message = format!(
            "{} is not a mode; write octal digits as \"0644\", in quotes",
            show(text)
        );
        checker.invalid(format!("{at}.permissions"), message);
    }
    mode
}

fn owner(checker: &mut Checker, at: &str, given: Option<String>) -> String {
    let text = given.unwrap_or_else(|| "root:root".to_owned());
    let name_ok = |name: &str| {
        !name.is_empty()
            && name.len() <= 32
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !name.starts_with(|c: char| c == '-' || c.is_ascii_digit())
    };
    if !matches!(text.split_once(':'), Some((user, group)) if name_ok(user) && name_ok(group)) {
        let message = format!(
            "{} is not user:group by name, not by number; write it as root:root",
            show(&text)
        );
        checker.invalid(format!("{at}.owner"), message);
    }
    text
}

fn content(
    checker: &mut Checker,
    at: &str,
    file: &MachineFileSpec,
    contents: &Contents,
) -> Option<Zeroizing<Vec<u8>>> {
    match (&file.content, &file.content_from) {
        (Some(text), None) => Some(Zeroizing::new(text.clone().into_bytes())),
        (None, Some(source)) => {
            let references = source_references(source);
            let [reference] = references.as_slice() else {
                checker.invalid(
                    format!("{at}.contentFrom"),
                    "must have exactly one of secretKeyRef and configMapKeyRef",
                );
                return None;
            };
            let found = contents.get(reference).cloned();
            if found.is_none() {
                let message = format!(
                    "{reference} does not exist in this namespace; create it or change the \
                     reference of {}",
                    show(&file.path)
                );
                checker.missing(format!("{at}.contentFrom"), message);
            }
            found
        }
        _ => {
            let message = format!(
                "{} must have exactly one of content and contentFrom",
                show(&file.path)
            );
            checker.invalid(at, message);
            None
        }
    }
}
