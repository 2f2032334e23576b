//! A project for a miner of one's own.

mod name;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use cuckoo_core::{Error, Result};

/// The folder this was built from, where it still is.
const BUILT_FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The project's files. What Cargo or git would take for its own is kept under another name.
const FILES: [(&str, &str); 7] = [
    (
        "Cargo.toml",
        include_str!("../../templates/miner/Cargo.toml.in"),
    ),
    (
        ".gitignore",
        include_str!("../../templates/miner/gitignore.in"),
    ),
    ("README.md", include_str!("../../templates/miner/README.md")),
    (
        "miner.toml",
        include_str!("../../templates/miner/miner.toml"),
    ),
    (
        "src/main.rs",
        include_str!("../../templates/miner/src/main.rs"),
    ),
    (
        "src/executor.rs",
        include_str!("../../templates/miner/src/executor.rs"),
    ),
    (
        "tests/conformance.rs",
        include_str!("../../templates/miner/tests/conformance.rs"),
    ),
];

/// Makes a project for a miner of your own: a small executor to put yours in place of, the program around it, settings, and
/// a test that checks what coordinators rely on.
#[derive(Debug, Args)]
#[command(after_help = "\
The project has every command of this program; what is yours is src/executor.rs. Nothing is overwritten.
Cuckoo is not on crates.io: the project depends on a checkout of it or on its git repository.

Examples:
  PROGRAM new my-miner
  PROGRAM new my-miner --path ~/src/my-miner --cuckoo ~/src/cuckoo
  PROGRAM new my-miner --cuckoo https://git.example.org/cuckoo.git")]
pub(crate) struct Arguments {
    /// The project's name, as Cargo takes it.
    name: String,
    /// Its folder, which must be empty or not there yet; named like the project, in this one, when absent.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Where Cuckoo is: the folder of a checkout or the address of a git repository; the checkout that this program was built
    /// from when absent.
    #[arg(long, value_name = "SOURCE")]
    cuckoo: Option<String>,
}

/// Writes the project and says what to do next.
///
/// # Errors
/// `Invalid` for a name that Cargo does not take or a source that is not Cuckoo, `Conflict` for a folder that holds something,
/// `Unavailable` when it cannot be written.
pub(crate) fn new(arguments: &Arguments) -> Result<()> {
    let name = &arguments.name;
    name::check(name)?;
    let source = Source::find(arguments.cuckoo.as_deref())?;
    let folder = arguments.path.clone().unwrap_or_else(|| name.into());
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Error::conflict(format!(
            "{} is not an empty folder; nothing was written. Give another one with --path",
            folder.display()
        )));
    }
    for (file, template) in FILES {
        let text = template
            .replace("{{name}}", name)
            .replace("{{rust-version}}", env!("CARGO_PKG_RUST_VERSION"))
            .replace("{{cuckoo-core}}", &source.dependency("cuckoo-core"))
            .replace("{{cuckoo-miner}}", &source.dependency("cuckoo-miner"));
        write(&folder.join(file), &text)?;
    }
    println!(
        "{} is there: an executor that draws bar charts, in src/executor.rs. Next:

  cd {}
  cargo test --release        # the first build takes some minutes
  cargo run --release -- --help",
        folder.display(),
        quoted(&folder)
    );
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)
        .and_then(|()| fs::File::create_new(path))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| {
            Error::unavailable(format!("cannot write {}", path.display())).with_source(source)
        })
}

/// A folder as shells take it.
fn quoted(folder: &Path) -> String {
    let text = folder.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./~".contains(&byte);
    if text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Where the project gets Cuckoo from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The folder of a checkout.
    Folder(PathBuf),
    /// The address of a git repository.
    Git(String),
}

impl Source {
    fn find(given: Option<&str>) -> Result<Self> {
        let Some(given) = given else {
            return Self::checkout(Path::new(BUILT_FROM)).ok_or_else(|| {
                Error::invalid(
                    "the checkout that this program was built from is gone; say with --cuckoo where Cuckoo is: a checkout's \
                     folder, or the address of its git repository",
                )
            });
        };
        if is_address(given) {
            return Ok(Self::Git(given.to_owned()));
        }
        Self::checkout(Path::new(given)).ok_or_else(|| {
            Error::invalid(format!(
                "{given} is neither the folder of a checkout of Cuckoo, with cuckoo-miner in it, nor the address of a git \
                 repository, such as https://git.example.org/cuckoo.git"
            ))
        })
    }

    fn checkout(folder: &Path) -> Option<Self> {
        let there = |name: &str| folder.join(name).join("Cargo.toml").is_file();
        if !there("cuckoo-core") || !there("cuckoo-miner") {
            return None;
        }
        folder.canonicalize().ok().map(Self::Folder)
    }

    /// The part of `Cargo.toml` that says where one of its crates is.
    fn dependency(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                format!("path = {}", toml_text(&path.to_string_lossy()))
            }
            Self::Git(address) => format!("git = {}", toml_text(address)),
        }
    }
}

/// The schemes that Cargo takes a git repository by.
fn is_address(text: &str) -> bool {
    ["https://", "http://", "ssh://", "git://", "file://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// TOML's basic strings are escaped as JSON's are.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use cuckoo_core::ErrorKind;

    use super::*;

    #[test]
    fn a_source_is_a_checkout_or_an_address() {
        let built_from = Source::find(None).unwrap();
        let Source::Folder(folder) = &built_from else {
            panic!("{built_from:?}");
        };
        assert_eq!(
            Source::find(Some(folder.to_str().unwrap())).unwrap(),
            built_from
        );
        let git = Source::find(Some("https://git.example.org/a\"b.git")).unwrap();
        assert_eq!(
            git.dependency("cuckoo-core"),
            r#"git = "https://git.example.org/a\"b.git""#
        );
        for wrong in ["/", "nowhere", "git@git.example.org:cuckoo"] {
            let error = Source::find(Some(wrong)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains(wrong), "{error}");
        }
    }

    #[test]
    fn folders_are_quoted_for_shells() {
        assert_eq!(quoted(Path::new("a/my-miner")), "a/my-miner");
        assert_eq!(quoted(Path::new("it's mine")), r"'it'\''s mine'");
    }
}
