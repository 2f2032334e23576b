//! Names that Cargo takes for a package with a program in it.

use cuckoo_core::{Error, Result};

/// The longest name; Cargo has no limit, registries take this many.
const MAX_LEN: usize = 64;

/// Rust's keywords, reserved ones included: a crate's name is an identifier.
const KEYWORDS: [&str; 52] = [
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// Crates that come with Rust or that the project uses, and folders that Cargo builds in.
const TAKEN: [&str; 16] = [
    "alloc",
    "async-trait",
    "build",
    "core",
    "cuckoo-core",
    "cuckoo-miner",
    "deps",
    "examples",
    "executor",
    "incremental",
    "proc-macro",
    "serde",
    "serde-json",
    "std",
    "test",
    "tests",
];
/// Files that Windows keeps for devices.
const DEVICES: [&str; 22] = [
    "aux", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "con", "lpt1",
    "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9", "nul", "prn",
];

/// Checks a project's name.
///
/// # Errors
/// `Invalid` that says what a name may be.
pub(super) fn check(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if !begins || name.len() > MAX_LEN || !name.bytes().all(allowed) {
        return Err(Error::invalid(format!(
            "a project's name begins with a letter and has at most {MAX_LEN} letters, digits, - and _; `{}` does not do",
            name.escape_debug()
        )));
    }
    let lower = name.to_ascii_lowercase();
    if KEYWORDS.contains(&name)
        || TAKEN.contains(&lower.replace('_', "-").as_str())
        || DEVICES.contains(&lower.as_str())
    {
        return Err(Error::invalid(format!(
            "`{name}` is a name that Rust, Cargo, Windows or the project itself uses already; choose another one"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        for name in ["my-miner", "m", "Chart_2", "executors"] {
            check(name).unwrap();
        }
        let long = "x".repeat(65);
        for name in [
            "",
            "2d",
            "-x",
            "_x",
            "my miner",
            "../x",
            "x\n",
            "größe",
            "fn",
            "Self",
            "test",
            "Core",
            "cuckoo_miner",
            "executor",
            "NUL",
            &long,
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
