use std::path::PathBuf;

use cuckoo_core::ErrorKind;

use super::*;

const FAMILIES: [&str; 5] = ["bert", "distilbert", "roberta", "xlm_roberta", "mpnet"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/embedding")
        .join(name)
}

fn model(name: &str) -> EmbeddingModel {
    EmbeddingModel::load(&golden(name)).unwrap()
}

fn texts() -> Vec<String> {
    let words = |i: usize| ["the", "cuckoo", "sings", "at", "noon"][i * 7 % 5];
    (0..20)
        .map(|i| (0..i * i % 37).map(words).collect::<Vec<_>>().join(" "))
        .collect()
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let bits = |row: &Vec<f32>| row.iter().map(|x| x.to_bits()).collect();
    vectors.iter().map(bits).collect()
}

#[test]
fn a_texts_vector_does_not_depend_on_the_other_texts() {
    for name in FAMILIES {
        let (model, texts) = (model(name), texts());
        let together = bits(&model.embed(&texts).unwrap());
        for (text, among) in texts.iter().zip(&together) {
            let alone = bits(&model.embed(&[text]).unwrap());
            assert_eq!(&alone[0], among, "{name}: {text}");
        }
        assert!(
            together
                .iter()
                .all(|vector| vector.len() == model.dimensions())
        );
        assert_ne!(together[2], together[3], "{name}");
    }
}

#[test]
fn vectors_do_not_depend_on_the_number_of_threads() {
    let texts: Vec<_> = texts().into_iter().cycle().take(200).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| bits(&model("mpnet").embed(&texts).unwrap()))
    };
    assert!(run(1) == run(5));
}

#[test]
fn long_texts_are_cut_where_the_folder_says() {
    let model = model("bert");
    assert_eq!(model.longest(), 21);
    let text = |end: &str| "the nest ".repeat(30) + end;
    assert_eq!(model.tokens(&text("")).unwrap().len(), 21);
    let cut = model.embed(&[text("bird"), text("egg")]).unwrap();
    assert_eq!(cut[0], cut[1]);
    assert!(model.embed(&[""; 0]).unwrap().is_empty());
}

#[test]
fn encoders_are_told_from_other_models() {
    for name in FAMILIES {
        assert!(EmbeddingModel::recognises(&golden(name)), "{name}");
    }
    let others = golden("../language/llama");
    assert!(!EmbeddingModel::recognises(&others));
    assert!(!EmbeddingModel::recognises(Path::new("/nowhere")));
    let error = EmbeddingModel::load(&others).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("architectures"), "{error}");
}

/// A copy of a golden model, to be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(name), dir.path());
    dir
}

#[test]
fn what_a_folder_lacks_is_named() {
    for file in [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
    ] {
        let dir = copy("distilbert");
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let error = EmbeddingModel::load(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains(file), "{error}");
    }
    let nowhere = EmbeddingModel::load(Path::new("/nowhere")).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

#[test]
fn what_does_not_fit_is_named() {
    for (file, from, to, named) in [
        (
            "config.json",
            "\"hidden_size\": 24",
            "\"hidden_size\": 28",
            "word_embedding_dimension",
        ),
        (
            "config.json",
            "\"intermediate_size\": 44",
            "\"intermediate_size\": 45",
            "intermediate.dense",
        ),
        (
            "config.json",
            "\"num_hidden_layers\": 3",
            "\"num_hidden_layers\": 2",
            "encoder.layer.2",
        ),
        ("config.json", "\"gelu\"", "\"mish\"", "hidden_act"),
        (
            "config.json",
            "\"hidden_act\"",
            "\"hidden_trick\"",
            "hidden_trick",
        ),
        (
            "1_Pooling/config.json",
            "mean_tokens",
            "median_tokens",
            "pooling_mode_median_tokens",
        ),
        (
            "modules.json",
            "models.Normalize",
            "models.LSTM",
            "models.LSTM",
        ),
        ("sentence_bert_config.json", "21", "2", "no room"),
        ("tokenizer.json", "{", "", "tokenizer.json"),
    ] {
        let dir = copy("bert");
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = EmbeddingModel::load(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(named), "{named}: {error}");
    }
}

#[test]
fn texts_are_lowered_where_one_of_the_files_says_so() {
    let tokens = |change: &dyn Fn(&Path)| {
        let dir = copy("bert");
        change(dir.path());
        let model = EmbeddingModel::load(dir.path()).unwrap();
        ["THE NEST", "the nest"].map(|text| model.tokens(text).unwrap())
    };
    let edit = |dir: &Path, file: &str, from: &str, to: &str| {
        let path = dir.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    let cased = |dir: &Path| {
        edit(
            dir,
            "tokenizer_config.json",
            "{",
            "{\"do_lower_case\": false,",
        )
    };
    let [loud, quiet] = tokens(&|_| {});
    assert_eq!(loud, quiet);
    let [loud, quiet] = tokens(&cased);
    assert_ne!(loud, quiet);
    let [loud, quiet] = tokens(&|dir| {
        cased(dir);
        let flag = "\"do_lower_case\": ";
        let file = "sentence_bert_config.json";
        edit(dir, file, &format!("{flag}false"), &format!("{flag}true"));
    });
    assert_eq!(loud, quiet);
}

#[test]
fn a_model_larger_than_the_memory_is_refused() {
    let mut folder = Folder::open(&golden("bert")).unwrap();
    let kernels = Arc::new(CpuKernels::new());
    folder.free = || Some(1000);
    let error = EmbeddingModel::read(&mut folder, kernels).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Memory {
                available: 1000,
                ..
            }
        ),
        "{error}"
    );
}
