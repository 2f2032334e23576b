//! How byte-level tokenizers cut text into words, by the names in `tokenizer.ggml.pre`.

use serde_json::{Value, json};

/// Llama 3: numbers in threes.
const THREES: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2: numbers digit by digit.
const ONES: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral Nemo: words also where small letters go over into capitals.
const CASES: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Where words end.
#[derive(Debug)]
enum Words {
    /// As GPT-2 has them.
    Plain,
    /// The same, once digits are apart.
    Digits,
    /// What the expression matches.
    Regex(&'static str),
}

/// One way to cut.
#[derive(Debug)]
pub(super) struct Split {
    names: &'static [&'static str],
    words: Words,
    /// A word that is a token is that token, whatever pairs would make of it.
    pub(super) whole_words: bool,
    /// Texts begin with a mark where the file does not say otherwise.
    pub(super) begins: bool,
}

static SPLITS: [Split; 6] = [
    Split {
        names: &["default", "gpt-2"],
        words: Words::Plain,
        whole_words: false,
        begins: false,
    },
    Split {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        words: Words::Regex(THREES),
        whole_words: true,
        begins: true,
    },
    Split {
        names: &["dbrx", "smaug-bpe"],
        words: Words::Regex(THREES),
        whole_words: false,
        begins: false,
    },
    Split {
        names: &["qwen2", "deepseek-r1-qwen"],
        words: Words::Regex(ONES),
        whole_words: false,
        begins: false,
    },
    Split {
        names: &["tekken"],
        words: Words::Regex(CASES),
        whole_words: true,
        begins: true,
    },
    Split {
        names: &["smollm"],
        words: Words::Digits,
        whole_words: false,
        begins: false,
    },
];

impl Split {
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        SPLITS.iter().find(|split| split.names.contains(&name))
    }

    /// All names that are known.
    pub(super) fn names() -> String {
        let names = SPLITS.iter().flat_map(|split| split.names);
        names.copied().collect::<Vec<_>>().join(", ")
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn steps(&self) -> Value {
        let bytes = |plain: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": plain});
        let steps = match self.words {
            Words::Plain => json!([bytes(true)]),
            Words::Digits => json!([{"type": "Digits", "individual_digits": true}, bytes(true)]),
            Words::Regex(regex) => json!([
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                bytes(false),
            ]),
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
