use std::path::Path;

use super::*;

/// The random pipeline's tokenizer: one token for each of "red", "circle", "blue", "background", "large" and "naïve",
/// and the bytes.
fn golden() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/random/tokenizer");
    std::fs::create_dir(dir.path().join("tokenizer")).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(
            file.path(),
            dir.path().join("tokenizer").join(file.file_name()),
        )
        .unwrap();
    }
    dir
}

fn load(dir: &tempfile::TempDir, positions: usize, vocabulary: usize) -> Result<PromptTokenizer> {
    PromptTokenizer::load(
        &mut Folder::open(dir.path()).unwrap(),
        "tokenizer",
        positions,
        vocabulary,
    )
}

const VOCABULARY: usize = 542;

fn words(tokenizer: &PromptTokenizer, prompt: &str) -> Vec<String> {
    let tokens = tokenizer.encode(prompt).unwrap();
    tokens
        .into_iter()
        .map(|id| tokenizer.tokenizer.id_to_token(id).unwrap())
        .collect()
}

#[test]
fn prompts_become_marked_and_padded_words() {
    let dir = golden();
    let tokenizer = load(&dir, 16, VOCABULARY).unwrap();
    let mut expected = vec![
        START,
        "red</w>",
        "circle</w>",
        "'",
        "s</w>",
        "naÃ¯ve</w>",
        "7</w>",
        END,
    ];
    expected.resize(16, "!");
    // Case, runs of white space and composed or decomposed accents do not matter.
    expected[3] = "'";
    let got = words(&tokenizer, "RED  circle's\tnai\u{308}ve 7");
    assert_eq!(got[..3], expected[..3]);
    assert_eq!(got[got.len() - 1], "!");
    assert!(got.contains(&"naÃ¯ve</w>".to_owned()), "{got:?}");
    assert_eq!(got.len(), 16);
}

#[test]
fn long_prompts_are_cut_and_any_text_is_spelled() {
    let dir = golden();
    let tokenizer = load(&dir, 16, VOCABULARY).unwrap();
    let long = words(&tokenizer, &"red ".repeat(100));
    assert_eq!(
        (long.len(), long[14].as_str(), long[15].as_str()),
        (16, "red</w>", END)
    );
    for text in [
        "",
        "\0\u{7f}",
        "日本 🦜",
        "<|startoftext|> x <|endoftext|>",
        "\u{202e}\u{feff}",
    ] {
        assert_eq!(tokenizer.encode(text).unwrap().len(), 16, "{text:?}");
    }
}

#[test]
fn tokenizer_json_gives_the_same_tokens() {
    let dir = golden();
    let classic = load(&dir, 16, VOCABULARY).unwrap();
    classic
        .tokenizer
        .save(dir.path().join("tokenizer/tokenizer.json"), false)
        .unwrap();
    for file in ["vocab.json", "merges.txt"] {
        std::fs::remove_file(dir.path().join("tokenizer").join(file)).unwrap();
    }
    let modern = load(&dir, 16, VOCABULARY).unwrap();
    for prompt in ["a large red circle", "naïve!  Stars'", "日本"] {
        assert_eq!(
            classic.encode(prompt).unwrap(),
            modern.encode(prompt).unwrap()
        );
    }
}

#[test]
fn damaged_tokenizers_are_refused() {
    let dir = golden();
    assert!(
        load(&dir, 15, VOCABULARY)
            .unwrap_err()
            .to_string()
            .contains("model_max_length 16 does not fit")
    );
    assert!(
        load(&dir, 16, VOCABULARY - 1)
            .unwrap_err()
            .to_string()
            .contains("only 541 tokens")
    );
    let write = |file: &str, text: &str| {
        std::fs::write(dir.path().join("tokenizer").join(file), text).unwrap()
    };
    for (file, text, problem) in [
        ("merges.txt", "red", "is not a pair"),
        ("merges.txt", "zz yy", "cannot be used"),
        ("vocab.json", "{\"a\": -1}", "not valid JSON"),
        ("vocab.json", "{}", "cannot be used"),
        ("tokenizer_config.json", "[", "not valid JSON"),
        (
            "tokenizer_config.json",
            "{\"bos_token\": \"nowhere\"}",
            "no token \"nowhere\"",
        ),
        ("tokenizer.json", "{}", "cannot be used"),
    ] {
        let path = dir.path().join("tokenizer").join(file);
        let before = std::fs::read(&path).ok();
        write(file, text);
        let error = load(&dir, 16, VOCABULARY).unwrap_err().to_string();
        assert!(error.contains(problem), "{file} {text}: {error}");
        match before {
            Some(before) => std::fs::write(&path, before).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
    std::fs::remove_file(dir.path().join("tokenizer/merges.txt")).unwrap();
    assert!(
        load(&dir, 16, VOCABULARY)
            .unwrap_err()
            .to_string()
            .contains("lacks tokenizer/merges.txt")
    );
}
