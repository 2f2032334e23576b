use std::path::PathBuf;

use cuckoo_core::ErrorKind;

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/language")
        .join(name)
}

fn model(name: &str) -> LanguageModel {
    LanguageModel::load(&golden(name)).unwrap()
}

const FAMILIES: [&str; 6] = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma"];

/// Some tokens, different for each seed.
fn tokens(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32)
        .map(|i| (i * 37 + seed * 101 + i * i) % 280)
        .collect()
}

fn bits(scores: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let bits = |row: &Vec<f32>| row.iter().map(|x| x.to_bits()).collect();
    scores.iter().map(bits).collect()
}

#[test]
fn a_texts_scores_do_not_depend_on_how_it_is_cut() {
    for name in FAMILIES {
        let model = model(name);
        let tokens = tokens(100, 1);
        let whole = bits(&model.scores(&tokens).unwrap());
        for size in [1, 7, 64, 99] {
            let (mut pool, mut cache) = (model.pool(), Cache::default());
            let mut parts = Vec::new();
            for chunk in tokens.chunks(size) {
                let scores = model.run(&mut cache, &mut pool, chunk, chunk.len());
                parts.extend(bits(&scores.unwrap()));
            }
            assert!(parts == whole, "{name} in chunks of {size}");
        }
    }
}

#[test]
fn a_texts_scores_do_not_depend_on_the_other_texts() {
    for name in FAMILIES {
        let model = model(name);
        // Eight texts of different lengths: what comes before the next step, and the tokens of that step.
        let texts: Vec<_> = (0..8)
            .map(|i| {
                (
                    tokens(3 + i * 13, i as u32),
                    tokens(1 + i % 3, 50 + i as u32),
                )
            })
            .collect();
        for threads in [1, 3] {
            let size = model.decoder.page_size();
            let mut pool = Pool::new(size, 64, model.kernels.device());
            let mut caches = Vec::new();
            let mut alone = Vec::new();
            for (before, next) in &texts {
                let all = [&before[..], next].concat();
                let scores = bits(&model.scores(&all).unwrap());
                alone.extend_from_slice(&scores[before.len()..]);
                let mut cache = Cache::default();
                model.run(&mut cache, &mut pool, before, 0).unwrap();
                cache.grow(&mut pool, all.len()).unwrap();
                caches.push(cache);
            }
            let mut batch: Vec<_> = texts
                .iter()
                .zip(&mut caches)
                .map(|((_, next), cache)| Chunk {
                    tokens: next,
                    cache,
                    wanted: next.len(),
                })
                .collect();
            let together = on(threads, || {
                model.decoder.forward(&*model.kernels, &mut batch)
            });
            assert!(bits(&together.unwrap()) == alone, "{name}");
        }
    }
}

/// What `run` gives on so many threads.
fn on<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(run)
}

#[test]
fn scores_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        on(threads, || {
            bits(&model("llama").scores(&tokens(200, 3)).unwrap())
        })
    };
    assert!(run(1) == run(5));
}

#[test]
fn texts_come_back_whole_from_their_tokens() {
    for name in ["llama", "gemma"] {
        let vocabulary = model(name).tokenizer.vocabulary;
        for text in [
            "The cuckoo sings at noon.",
            "naïve café 日本 🦜🦜 end 日本語のテキスト",
            "🦜",
            "x \u{fffd} y \u{fffd}",
        ] {
            let tokens = vocabulary.encode(text, false).unwrap();
            let mut detokenizer = detokenizer::Detokenizer::default();
            let mut pieces = Vec::new();
            for token in &tokens {
                pieces.push(detokenizer.push(&vocabulary, *token).unwrap());
            }
            let broken = |piece: &String| piece.contains('\u{fffd}') && !text.contains('\u{fffd}');
            assert!(!pieces.iter().any(broken), "{name}: {pieces:?}");
            pieces.push(detokenizer.finish(&vocabulary).unwrap());
            assert_eq!(pieces.concat(), text, "{name}: {pieces:?}");
        }
        // A character that is never completed.
        let parrot = vocabulary.encode("a🦜", false).unwrap();
        let mut detokenizer = detokenizer::Detokenizer::default();
        let mut text = String::new();
        for token in &parrot[..parrot.len() - 1] {
            text += &detokenizer.push(&vocabulary, *token).unwrap();
        }
        assert_eq!(text, "a");
        assert!(
            detokenizer
                .finish(&vocabulary)
                .unwrap()
                .contains('\u{fffd}')
        );
        // Nothing but such beginnings: let go in the end.
        let mut detokenizer = detokenizer::Detokenizer::default();
        let mut given = 0;
        for _ in 0..200 {
            given += detokenizer.push(&vocabulary, parrot[1]).unwrap().len();
        }
        assert!(given > 0);
    }
}

#[test]
fn tokens_are_named_as_they_are_within_a_text() {
    let vocabulary = model("gemma").tokenizer.vocabulary;
    let tokens = vocabulary.encode("the bird", false).unwrap();
    let names: Vec<_> = tokens
        .iter()
        .map(|token| vocabulary.token_text(*token).unwrap())
        .collect();
    assert_eq!(names.concat(), " the bird");
    let end = vocabulary.id("</s>").unwrap();
    assert_eq!(vocabulary.token_text(end).unwrap(), "</s>");
}

/// A copy of a golden model, to be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn fault(dir: &tempfile::TempDir) -> (ErrorKind, String) {
    let error = LanguageModel::load(dir.path()).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn what_a_folder_lacks_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = copy("qwen3");
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let (kind, message) = fault(&dir);
        assert_eq!(kind, ErrorKind::NotFound, "{message}");
        assert!(message.contains(file), "{message}");
    }
    let dir = copy("llama");
    let shard = "model-00002-of-00003.safetensors";
    std::fs::remove_file(dir.path().join(shard)).unwrap();
    assert!(fault(&dir).1.contains(shard));
    let nowhere = LanguageModel::load(Path::new("/nowhere")).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_damaged_is_named() {
    let change = |name: &str, file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let dir = copy(name);
        let path = dir.path().join(file);
        let bytes = change(std::fs::read(&path).unwrap());
        std::fs::write(&path, bytes).unwrap();
        let (kind, message) = fault(&dir);
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains(file), "{message}");
        message
    };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    change("qwen3", "model.safetensors", &half);
    change("qwen3", "tokenizer.json", &half);
    change("qwen3", "config.json", &half);
    change("qwen3", "generation_config.json", &half);
    let text = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{from}");
            text.replace(from, to).into_bytes()
        }
    };
    let message = change("qwen3", "config.json", &text("Qwen3For", "Qwen9For"));
    assert!(message.contains("architectures"), "{message}");
    let message = change("qwen3", "config.json", &text("\"hidden_size\": 20,", ""));
    assert!(message.contains("hidden_size"), "{message}");
    // Weights of another size than the configuration, and too many of them.
    let dir = copy("qwen3");
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    for (from, to, named) in [
        (
            "\"intermediate_size\": 36",
            "\"intermediate_size\": 37",
            "mlp.gate_proj",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            "model.layers.1",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "model.layers.2",
        ),
        (
            "\"vocab_size\": 286",
            "\"vocab_size\": 100",
            "tokenizer.json",
        ),
    ] {
        let mut changed = config.replace(from, to);
        if from.contains("layers") {
            // The list of layers would be the first to disagree.
            let start = changed.find("\"layer_types\"").unwrap();
            let end = start + changed[start..].find("],").unwrap() + 2;
            changed.replace_range(start..end, "");
        }
        assert_ne!(changed, config);
        std::fs::write(&path, changed).unwrap();
        let (kind, message) = fault(&dir);
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn a_model_larger_than_the_memory_is_refused() {
    let mut folder = Folder::open(&golden("llama")).unwrap();
    let kernels = Arc::new(CpuKernels::new());
    folder.free = || Some(1000);
    let error = LanguageModel::read(&mut folder, None, kernels).unwrap_err();
    assert!(matches!(
        &error,
        Error::Memory {
            available: 1000,
            ..
        }
    ));
    let message = error.to_string();
    assert!(
        message.contains("model-00001-of-00003.safetensors"),
        "{message}"
    );
}

#[test]
fn prompts_are_bounded_by_the_context() {
    let model = model("qwen3");
    let long = "cuckoo ".repeat(200);
    let error = model.tokens(TextPrompt::Prompt(&long)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("`prompt`") && error.message().contains("128"));
    assert!(
        model.tokens(TextPrompt::Prompt("")).is_err(),
        "no tokens at all"
    );
    assert!(model.scores(&[]).is_err());
    assert!(model.scores(&[9_999]).is_err());
    assert!(model.scores(&tokens(129, 1)).is_err());
    assert!(model.scores(&tokens(128, 1)).is_ok());
}

/// What transformers' processors for penalties, temperature, top-k and top-p leave, and with which probabilities.
#[test]
fn tokens_are_chosen_among_those_that_transformers_keeps() {
    #[derive(serde::Deserialize)]
    struct Kept {
        tokens: Vec<u32>,
        kept: Vec<(u32, f64)>,
    }
    for name in FAMILIES {
        let bytes = std::fs::read(golden(&format!("{name}.safetensors"))).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let Kept { tokens, kept } = serde_json::from_str(&metadata["golden"]).unwrap();
        let scores = model(name).scores(&tokens).unwrap().pop().unwrap();
        let sampling = sampler::Sampling {
            temperature: 0.7,
            top_k: 20,
            top_p: 0.8,
            min_p: 0.0,
            repetition_penalty: 1.3,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            logprobs: None,
        };
        let mut chances = sampling.chances(&scores, &sampler::History::new(&tokens));
        chances.sort_by_key(|(token, _)| *token);
        assert_eq!(chances.len(), kept.len(), "{name}");
        for ((token, chance), (expected, probability)) in chances.iter().zip(&kept) {
            assert_eq!(token, expected, "{name}");
            assert!(
                (chance - probability).abs() < 1e-5,
                "{name}: {chance} {probability}"
            );
        }
    }
}
