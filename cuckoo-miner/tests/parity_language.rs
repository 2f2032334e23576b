//! Language models against transformers: scores, greedy texts, tokens, conversations.
//!
//! `tests/golden/language` holds a small model of random weights for each family and what transformers computed with it
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

use cuckoo_core::payload_hash;
use cuckoo_miner::LanguageModel;

use golden::root;

#[test]
fn llama_matches_transformers() {
    compare("llama");
}

#[test]
fn mistral_matches_transformers() {
    compare("mistral");
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

/// Pins the arithmetic to the bit, on every processor these tests run on: who changes it changes the texts of the network,
/// and must give `cpu-f32-text` another number.
#[test]
fn bits_are_pinned() {
    let mut bytes = Vec::new();
    for name in ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma"] {
        let model = LanguageModel::load(&root().join("language").join(name)).unwrap();
        assert_eq!(model.kernels(), "cpu-f32-text-2");
        let tokens: Vec<u32> = (0..90).map(|i| i * 31 % 280).collect();
        for score in model.scores(&tokens).unwrap().concat() {
            bytes.extend(score.to_le_bytes());
        }
    }
    assert_eq!(payload_hash(&bytes).to_string(), PINNED);
}

const PINNED: &str = "0x0c7906d77ea4b5bbe8d45cb3d0c5aaf1b260aec5c5a7b2ce86b23e9bf7c26afe";

fn compare(name: &str) {
    let folder = root().join("language").join(name);
    language::compare(name, &format!("language/{name}"), &folder);
}
