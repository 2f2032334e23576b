use std::collections::HashMap;

use config::Environment;
use cuckoo_core::{ErrorKind, U256, cai};

use super::*;

const EXAMPLE: &str = include_str!("../../../miner.example.toml");

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("miner.toml");
    std::fs::write(&path, text).unwrap();
    let variables: HashMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let environment = Environment::with_prefix(PROGRAM.prefix).source(Some(variables));
    PROGRAM
        .load_with(&path, environment)
        .and_then(|config: Config| config.at(&path))
}

/// The example with one line changed.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replacen(from, to, 1)
}

#[test]
fn the_example_is_the_default_in_words() {
    let config = load(EXAMPLE, &[]).unwrap();
    assert_eq!(
        config.settings,
        Settings::default(),
        "it states every default"
    );
    assert_eq!(config.drain_seconds, default_drain_seconds());
    assert!(config.vouchers.ends_with(default_vouchers()));
    assert_eq!(config.coordinators, ["http://127.0.0.1:8480"]);
    assert_eq!(config.models[0].name.as_str(), "shapes");
    assert_eq!(config.models[0].min_price, U256::ZERO);
    for coordinator in &config.coordinators {
        crate::HttpCoordinator::new(coordinator).unwrap();
    }
}

#[test]
fn the_examples_model_is_there_from_a_folder_beside_it() {
    // As docs/operator.md has it: the file is copied to a folder of its own at the root.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model = load(EXAMPLE, &[]).unwrap().models.remove(0).folder.unwrap();
    let name = model.components().next_back().unwrap();
    assert!(root.join("examples/models").join(name).is_dir());
    assert!(EXAMPLE.contains("folder = \"../examples/models/shapes\""));
}

#[test]
fn every_line_that_is_commented_out_can_be_used() {
    let all: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#! ").unwrap_or(line))
        .filter(|line| !line.starts_with("deployment ="))
        .collect::<Vec<_>>()
        .join("\n");
    assert_ne!(all, EXAMPLE);
    let config = load(&all, &[]).unwrap();
    assert!(format!("{:?}", config.operator).contains("miner.password"));
    assert!(config.models[0].max_pixels.is_some() && config.models[0].max_steps.is_some());
    let listen = config.status.unwrap().listen;
    assert_eq!(listen, StatusConfig::default().listen);
    let hub = &config.models[4];
    let name = hub.hub.as_ref().unwrap().to_string();
    let (_, commit) = name.split_once('@').unwrap();
    assert!(hub.folder.is_none() && commit.len() == 40, "{name}");
    let text = &config.models[1];
    assert_eq!(
        (config.models[0].kind, text.kind),
        (Kind::Image, Kind::Text)
    );
    assert_eq!(
        text.text_limits(TextLimits::default().texts as u32),
        TextLimits::default(),
        "it states every default"
    );
    let embedding = &config.models[2];
    assert_eq!(embedding.kind, Kind::Embedding);
    assert_eq!(
        embedding.embedding_limits(),
        EmbeddingLimits::default(),
        "it states every default"
    );
    let speech = &config.models[3];
    assert_eq!(speech.kind, Kind::Speech);
    assert_eq!(
        speech.speech_limits(),
        SpeechLimits::default(),
        "it states every default"
    );
    assert_eq!(config.chain.contracts().unwrap().market.chain_id, 31_337);
}

#[test]
fn the_environment_overrides_the_file() {
    let config = load(
        EXAMPLE,
        &[
            ("CUCKOO_MINER__CHAIN__RPC", "http://127.0.0.1:9545"),
            ("CUCKOO_MINER__SETTINGS__SLOTS", "4"),
            ("CUCKOO_MINER__DRAIN_SECONDS", "5"),
            ("CUCKOO_MINER__COORDINATORS", "http://a:1,http://b:2"),
        ],
    )
    .unwrap();
    let rpc = format!("{:?}", config.chain.rpc());
    assert!(rpc.contains("http://127.0.0.1:9545"), "{rpc}");
    assert_eq!((config.settings.slots, config.drain_seconds), (4, 5));
    assert_eq!(config.coordinators, ["http://a:1", "http://b:2"]);
}

#[test]
fn prices_are_decimal_cai() {
    let price = |text: &str| {
        let file = changed("min_price = \"0\"", &format!("min_price = {text}"));
        load(&file, &[]).map(|config| config.models[0].min_price)
    };
    assert_eq!(price("\"2\"").unwrap(), cai(2));
    assert_eq!(price("\"0.25\"").unwrap(), cai(1) / U256::from(4));
    assert!(price("\"cheap\"").is_err());
    assert!(price("\"-1\"").is_err());
}

#[test]
fn what_is_wrong_is_named() {
    let slots_from_outside = ("CUCKOO_MINER__SETTINGS__SPEED", "9");
    for (text, variables, named) in [
        (format!("colour = 1\n{EXAMPLE}"), vec![], "colour"),
        (format!("{EXAMPLE}\nslot = 1\n"), vec![], "slot"),
        (changed("rpc =", "rcp ="), vec![], "rcp"),
        (
            changed("name = \"shapes\"", "name = \"a b\""),
            vec![],
            "letters",
        ),
        (changed("folder =", "path ="), vec![], "path"),
        (changed("folder =", "#folder ="), vec![], "`hub`"),
        (
            changed("folder =", "hub = \"org/name\"\nfolder ="),
            vec![],
            "`hub` are both set",
        ),
        (
            changed(
                "folder = \"../examples/models/shapes\"",
                "hub = \"../shapes\"",
            ),
            vec![],
            "org/name@revision",
        ),
        (
            changed("min_price", "kind = \"song\"\nmin_price"),
            vec![],
            "`song` is no kind of model; set image, text, embedding or speech",
        ),
        (
            changed("min_price", "chunk = 3\nmin_price"),
            vec![],
            "chunk",
        ),
        (
            changed("min_price", "kind = \"text\"\nmax_steps = 3\nmin_price"),
            vec![],
            "max_steps",
        ),
        (
            changed("min_price", "kind = \"text\"\ntexts = 0\nmin_price"),
            vec![],
            "texts",
        ),
        (
            changed("min_price", "kind = \"embedding\"\ntexts = 4\nmin_price"),
            vec![],
            "texts",
        ),
        (
            changed(
                "min_price",
                "kind = \"embeddings\"\nmax_texts = 0\nmin_price",
            ),
            vec![],
            "max_texts",
        ),
        (
            changed("min_price", "kind = \"speech\"\ntexts = 4\nmin_price"),
            vec![],
            "texts",
        ),
        (
            changed(
                "min_price",
                "kind = \"transcription\"\nmax_seconds = 0\nmin_price",
            ),
            vec![],
            "max_seconds",
        ),
        (changed("slots = 1", "slots = \"many\""), vec![], "slots"),
        (changed("slots = 1", "slots = 0"), vec![], "slots"),
        (
            changed(
                "[settings]\n",
                "[status]\nlisten = \"0.0.0.0:9461\"\n[settings]\n",
            ),
            vec![],
            "status.listen",
        ),
        (
            changed("limit = \"100\"", "limit = \"0\""),
            vec![],
            "credit.limit",
        ),
        (format!("warm_mib = 0\n{EXAMPLE}"), vec![], "warm_mib"),
        (EXAMPLE.to_owned(), vec![slots_from_outside], "speed"),
    ] {
        let error = load(&text, &variables).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{named}: {error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn a_kind_is_also_named_by_its_tasks() {
    for (name, kind) in [
        ("image", Kind::Image),
        ("text", Kind::Text),
        ("chat", Kind::Text),
        ("completion", Kind::Text),
        ("embedding", Kind::Embedding),
        ("embeddings", Kind::Embedding),
        ("speech", Kind::Speech),
        ("transcription", Kind::Speech),
    ] {
        let text = changed("min_price", &format!("kind = \"{name}\"\nmin_price"));
        assert_eq!(load(&text, &[]).unwrap().models[0].kind, kind, "{name}");
    }
}

#[test]
fn a_folder_of_another_kind_is_said_with_the_kind_to_set() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let located = |folder: &str, section: &str| {
        let text = changed("../examples/models/shapes", &format!("{golden}/{folder}"));
        let text = text.replacen("min_price", &format!("{section}\nmin_price"), 1);
        load(&text, &[]).unwrap().models[0].located()
    };
    for (folder, section, said) in [
        (
            "speech/english",
            "",
            "model `shapes`: the folder holds a speech model, but its section is of kind `image` (which it is when none is \
             set); add kind = \"speech\"",
        ),
        (
            "embedding/bert",
            "kind = \"chat\"",
            "model `shapes`: the folder holds an embedding model, but its section is of kind `text`; set kind = \"embedding\"",
        ),
        (
            "random",
            "kind = \"speech\"",
            "model `shapes`: the folder holds an image model, but its section is of kind `speech`; set kind = \"image\"",
        ),
    ] {
        let error = located(folder, section).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.message(), said);
    }
    for (folder, section) in [
        ("random", ""),
        ("language/llama", "kind = \"text\""),
        ("gguf/qwen2", "kind = \"text\""),
        ("embedding/bert", "kind = \"embedding\""),
        ("speech/english", "kind = \"speech\""),
        // What is there not at all is for loading to say.
        ("nowhere", ""),
    ] {
        located(folder, section).unwrap();
    }
}

#[test]
fn no_file_is_said_with_the_example_to_copy() {
    let error = Config::load(Path::new("/nowhere/miner.toml")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("miner.example.toml"));
}
