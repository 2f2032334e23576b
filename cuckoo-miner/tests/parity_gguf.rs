//! Language models from GGUF files against transformers with the same numbers, and what becomes of damaged files.
//!
//! `tests/golden/gguf` holds a small file of random weights for each architecture and what transformers computed with it
//! (`make parity` writes them anew and runs these tests, whose output is the table of errors measured).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

#[path = "parity/golden.rs"]
mod golden;
#[path = "parity/language.rs"]
mod language;

use std::fs;
use std::path::{Path, PathBuf};

use cuckoo_core::{ErrorKind, Result, TextPrompt};
use cuckoo_miner::{FolderKind, LanguageModel};

use golden::root;

#[test]
fn llama_with_bytes_matches_transformers() {
    compare("llama");
}

#[test]
fn llama_with_pieces_matches_transformers() {
    compare("pieces");
}

#[test]
fn qwen2_matches_transformers() {
    compare("qwen2");
}

#[test]
fn qwen3_matches_transformers() {
    compare("qwen3");
}

#[test]
fn phi3_matches_transformers() {
    compare("phi3");
}

#[test]
fn gemma_matches_transformers() {
    compare("gemma");
}

fn folder(name: &str) -> PathBuf {
    root().join("gguf").join(name)
}

fn compare(name: &str) {
    let golden = format!("gguf/{name}");
    language::compare(&format!("{name}.gguf"), &golden, &folder(name));
}

#[test]
fn a_file_is_a_model_by_its_own_path_and_under_any_name() {
    let file = folder("llama").join("model.Q8_0.gguf");
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("renamed.gguf");
    fs::copy(&file, &other).unwrap();
    let hash = |path: &Path| LanguageModel::load(path).unwrap().model_hash();
    assert_eq!(hash(&file), hash(&folder("llama")));
    assert_eq!(hash(&file), hash(&other));
    // What lies beside it changes nothing.
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    fs::write(dir.path().join("generation_config.json"), "{}").unwrap();
    assert_eq!(hash(&file), hash(dir.path()));
    for path in [&file, &folder("llama"), &other] {
        assert_eq!(FolderKind::of(path), FolderKind::Text);
    }
    fs::copy(&file, dir.path().join("second.gguf")).unwrap();
    let error = LanguageModel::load(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("renamed.gguf"), "{error}");
}

/// The only file of a model, and a copy to damage.
struct Damage {
    bytes: Vec<u8>,
    /// Where the numbers of tensors begin, about.
    header: usize,
    dir: tempfile::TempDir,
}

impl Damage {
    fn new(name: &str) -> Self {
        let file = fs::read_dir(folder(name)).unwrap().next().unwrap();
        let bytes = fs::read(file.unwrap().path()).unwrap();
        // The last tensor that the file lists, and a little more.
        let norm = b"output_norm.weight";
        let last = bytes.windows(norm.len()).position(|part| part == norm);
        Self {
            header: last.unwrap() + 100,
            bytes,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn load(&self, bytes: &[u8]) -> Result<LanguageModel> {
        let path = self.dir.path().join("x.gguf");
        fs::write(&path, bytes).unwrap();
        LanguageModel::load(&path)
    }
}

#[test]
fn a_file_that_is_cut_short_is_no_model() {
    for name in ["llama", "pieces"] {
        let damage = Damage::new(name);
        let size = damage.bytes.len();
        damage.load(&damage.bytes).unwrap();
        // The last bytes may be padding.
        let lengths = (0..damage.header).step_by(11);
        for length in lengths.chain((damage.header..size - 32).step_by(4099)) {
            let error = damage.load(&damage.bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{length}: {error}");
            assert!(
                error.to_string().starts_with("x.gguf "),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn a_file_with_false_bytes_is_a_model_or_an_error() {
    for (name, step) in [("llama", 17), ("pieces", 23), ("phi3", 37)] {
        let damage = Damage::new(name);
        for place in (0..damage.header).step_by(step) {
            for flip in [0x01, 0xff] {
                let mut bytes = damage.bytes.clone();
                bytes[place] ^= flip;
                match damage.load(&bytes) {
                    Ok(model) => {
                        // Whether it has tokens for that is up to the damage.
                        if let Ok(tokens) = model.tokens(TextPrompt::Prompt("The cuckoo  1!")) {
                            assert!(!tokens.is_empty());
                        }
                        let scores = model.scores(&[0, 1, 2]).unwrap();
                        assert_eq!(scores.len(), 3, "{name} at {place}");
                    }
                    Err(error) => {
                        let expected = [ErrorKind::Invalid, ErrorKind::Unavailable];
                        assert!(expected.contains(&error.kind()), "{place}: {error}");
                    }
                }
            }
        }
    }
}
