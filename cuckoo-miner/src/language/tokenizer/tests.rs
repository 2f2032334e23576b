use std::fs;
use std::path::PathBuf;

use cuckoo_core::{ErrorKind, TextInput, Timestamp};

use super::*;
use crate::{LanguageModel, TaskContext, TokenSampler};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// The tokenizer of a golden model with another `config.json`, or none, and no weights.
fn with_config(config: Option<&str>) -> Result<TextTokenizer> {
    let dir = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden("language/qwen3").join(file), dir.path().join(file)).unwrap();
    }
    if let Some(config) = config {
        fs::write(dir.path().join("config.json"), config).unwrap();
    }
    TextTokenizer::load(dir.path())
}

#[test]
fn folders_and_files_say_what_the_model_knows() {
    for name in [
        "language/llama",
        "language/qwen3",
        "language/gemma",
        "gguf/llama",
        "gguf/qwen3",
    ] {
        let tokenizer = TextTokenizer::load(golden(name)).unwrap();
        let model = LanguageModel::load(&golden(name)).unwrap();
        assert_eq!(tokenizer.context(), Some(model.context()), "{name}");
        assert_eq!(tokenizer.vocabulary(), model.vocabulary(), "{name}");
        assert_eq!(tokenizer.chats(), model.chats(), "{name}");
        assert_eq!(tokenizer.ends(), model.tokenizer.ends(), "{name}");
        assert_eq!(tokenizer.defaults, model.tokenizer.defaults, "{name}");
        let prompt = TextPrompt::Prompt("naïve café 🦜");
        assert_eq!(
            tokenizer.tokens(prompt).unwrap(),
            model.tokens(prompt).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_model_may_be_of_any_architecture() {
    let other = r#"{"architectures": ["OtherForCausalLM"], "novelty": 3, "vocab_size": 300,
        "max_position_embeddings": 64, "eos_token_id": [5, 4]}"#;
    let tokenizer = with_config(Some(other)).unwrap();
    assert_eq!(tokenizer.context(), Some(64));
    assert_eq!(tokenizer.vocabulary(), 300);
    // And the tokenizer's own.
    let end = tokenizer.vocabulary.id("<|im_end|>").unwrap();
    assert_eq!(tokenizer.ends(), [4, 5, end]);

    let parts = r#"{"eos_token_id": 5, "text_config": {"max_position_embeddings": 32}}"#;
    let tokenizer = with_config(Some(parts)).unwrap();
    assert_eq!(tokenizer.context(), Some(32));
    assert_eq!(tokenizer.ends(), [5, end]);

    let plain = with_config(None).unwrap();
    assert_eq!((plain.context(), plain.ends()), (None, &[end][..]));
    // It is the tokenizer's last one.
    assert_eq!(plain.vocabulary(), end as usize + 1);
    let long = "cuckoo ".repeat(200);
    let prompt = TextPrompt::Prompt(&long);
    let tokens = plain.tokens(prompt).unwrap();
    assert!(tokens.len() > 128);
    // The engine's own bound.
    let error = plain
        .clone()
        .with_context(tokens.len())
        .tokens(prompt)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("`prompt`"), "{error}");
    let wider = plain.with_context(tokens.len() + 1);
    assert_eq!(wider.tokens(prompt).unwrap(), tokens);
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    for (config, named) in [
        (r#"{"vocab_size": 100}"#, "tokenizer.json"),
        (r#"{"vocab_size": 0}"#, "vocab_size"),
        (
            r#"{"text_config": {"max_position_embeddings": -1}}"#,
            "max_position_embeddings",
        ),
        ("[]", "config.json"),
    ] {
        let error = with_config(Some(config)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(named), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    for folder in [empty.path(), Path::new("/nowhere")] {
        let error = TextTokenizer::load(folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn text_comes_in_whole_characters() {
    let tokenizer = TextTokenizer::load(golden("language/llama")).unwrap();
    let text = "naïve 🦜 日本";
    let tokens = tokenizer.vocabulary.encode(text, false).unwrap();
    let mut decoder = tokenizer.decoder();
    let mut pieces = Vec::new();
    for token in &tokens {
        pieces.push(decoder.push(*token).unwrap());
    }
    assert!(pieces.iter().any(String::is_empty), "{pieces:?}");
    assert!(!pieces.concat().contains(char::REPLACEMENT_CHARACTER));
    pieces.push(decoder.finish().unwrap());
    assert_eq!(pieces.concat(), text);
    // Cut within a character.
    let mut decoder = tokenizer.decoder();
    let parrot = tokenizer.vocabulary.encode("🦜", false).unwrap();
    assert_eq!(decoder.push(parrot[0]).unwrap(), "");
    assert!(decoder.finish().unwrap().contains('\u{fffd}'));
}

#[test]
fn scores_are_of_the_whole_vocabulary() {
    let tokenizer = with_config(None).unwrap();
    let context = TaskContext::new(Timestamp::from_millis(1_000));
    let input = TextInput {
        temperature: Some(0.0),
        max_tokens: Some(2),
        ..TextInput::completion("the cuckoo")
    };
    let mut text = TokenSampler::new(&tokenizer, input.clone()).unwrap();
    let mut scores = vec![0.0; tokenizer.vocabulary()];
    let error = text.sample(&scores[1..], &context).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Execution);
    let size = tokenizer.vocabulary();
    assert!(error.message().contains(&size.to_string()), "{error}");
    // What an engine pads them with is not looked at.
    scores[7] = 1.0;
    scores.extend([9.0, f32::NEG_INFINITY]);
    assert_eq!(text.sample(&scores, &context).unwrap(), Some(7));
    assert_eq!(text.tokens().last(), Some(&7));
    assert_eq!(context.progress_made(), 500);
    assert_eq!(text.sample(&scores, &context).unwrap(), None);
    let made = text.tokens().len();
    assert_eq!(text.sample(&scores, &context).unwrap(), None);
    assert_eq!(text.tokens().len(), made, "it has ended");
    assert_eq!(text.finish(&context).unwrap().usage.output_units, 2);

    scores[0] = f32::NAN;
    let mut text = TokenSampler::new(&tokenizer, input.clone()).unwrap();
    let error = text.sample(&scores, &context).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Execution);
    let hot = TextInput {
        temperature: Some(9.0),
        ..input
    };
    let error = TokenSampler::new(&tokenizer, hot).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
