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

use cuckoo_core::{ErrorKind, Message, TextPrompt, payload_hash};
use cuckoo_miner::LanguageModel;
use serde::Deserialize;

use golden::{check_model, relative, root};

/// Scores, relative to the reference's norm.
const SCORES: f64 = 1e-4;

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

/// What transformers made of a model.
#[derive(Deserialize)]
struct Golden {
    model_hash: String,
    prompt: String,
    tokens: Vec<u32>,
    greedy: Vec<u32>,
    texts: Vec<Text>,
    conversations: Vec<Conversation>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    text: Option<String>,
    #[serde(default)]
    tokens: Vec<u32>,
}

fn compare(name: &str) {
    let file = golden::Golden::load(&format!("language/{name}"));
    let golden: Golden = file.metadata();
    let (scores, last) = (file.floats("logits"), file.floats("last"));
    let model = LanguageModel::load(&root().join("language").join(name)).unwrap();
    check_model(model.model_hash(), &golden.model_hash);

    let tokens = model.tokens(TextPrompt::Prompt(&golden.prompt)).unwrap();
    assert_eq!(tokens, golden.tokens);
    let error = relative(&model.scores(&tokens).unwrap().concat(), &scores);
    assert!(error <= SCORES, "{name}: scores are off by {error:.1e}");
    let made = model.likeliest(&tokens, golden.greedy.len()).unwrap();
    assert_eq!(made, golden.greedy, "{name}: another text");
    // Far into the text, where windows and rotations count.
    let all = [&tokens[..], &made[..made.len() - 1]].concat();
    let far = model.scores(&all).unwrap().pop().unwrap();
    let far = relative(&far, &last);
    assert!(far <= SCORES, "{name}: later scores are off by {far:.1e}");

    for text in &golden.texts {
        let prompt = TextPrompt::Prompt(&text.text);
        match model.tokens(prompt) {
            Ok(tokens) => assert_eq!(tokens, text.tokens, "{name}: {:?}", text.text),
            Err(_) => assert!(text.tokens.is_empty(), "{name}: {:?}", text.text),
        }
        assert_eq!(model.text(&text.tokens).unwrap(), text.decoded, "{name}");
    }
    for conversation in &golden.conversations {
        let rendered = model.render(&conversation.messages);
        match &conversation.text {
            Some(text) => assert_eq!(&rendered.unwrap(), text, "{name}"),
            None => assert_eq!(rendered.unwrap_err().kind(), ErrorKind::Invalid, "{name}"),
        }
        if conversation.text.is_some() && conversation.tokens.len() < model.context() {
            let prompt = TextPrompt::Messages(&conversation.messages);
            assert_eq!(model.tokens(prompt).unwrap(), conversation.tokens, "{name}");
        }
    }
    println!(
        "{name}: scores {error:.1e} relative, {far:.1e} after {} tokens; {} greedy tokens, {} texts, {} conversations equal",
        all.len(),
        made.len(),
        golden.texts.len(),
        golden.conversations.len()
    );
}
