//! A language model against what transformers made of it: scores, greedy texts, tokens, conversations.

use std::path::Path;

use cuckoo_core::{ErrorKind, Message, TextPrompt};
use cuckoo_miner::LanguageModel;
use serde::Deserialize;

use crate::golden::{self, check_model, relative};

/// Scores, relative to the reference's norm.
const SCORES: f64 = 1e-4;

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

/// Compares the model at `path` with what transformers made of it, which is in `golden`.
pub(crate) fn compare(name: &str, golden: &str, path: &Path) {
    let file = golden::Golden::load(golden);
    let golden: Golden = file.metadata();
    let (scores, last) = (file.floats("logits"), file.floats("last"));
    let model = LanguageModel::load(path).unwrap();
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
