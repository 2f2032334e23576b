use std::collections::HashMap;

use cuckoo_core::{ErrorKind, U256, cai};

use super::*;

const EXAMPLE: &str = include_str!("../../../../miner.example.toml");

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("miner.toml");
    std::fs::write(&path, text).unwrap();
    let variables: HashMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::load_with(
        &path,
        Environment::with_prefix(PREFIX).source(Some(variables)),
    )
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
        cuckoo_miner::HttpCoordinator::new(coordinator).unwrap();
    }
}

#[test]
fn the_examples_model_is_there_from_a_folder_beside_it() {
    // As docs/operator.md has it: the file is copied to a folder of its own at the root.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model = load(EXAMPLE, &[]).unwrap().models.remove(0).folder;
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
    assert!(config.operator.password_file.is_some());
    assert!(config.models[0].max_pixels.is_some() && config.models[0].max_steps.is_some());
    assert_eq!(config.chain.deployment().unwrap().chain_id, 31_337);
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
    assert_eq!(config.chain.rpc, "http://127.0.0.1:9545");
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
        (changed("slots = 1", "slots = \"many\""), vec![], "slots"),
        (changed("slots = 1", "slots = 0"), vec![], "slots"),
        (EXAMPLE.to_owned(), vec![slots_from_outside], "speed"),
    ] {
        let error = load(&text, &variables).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{named}: {error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn no_file_and_half_a_deployment_are_told_apart() {
    let error = Config::load(Path::new("/nowhere/miner.toml")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let both = changed(
        "deployment = \"deployment.toml\"",
        "deployment = \"deployment.toml\"\nchain_id = 1",
    );
    let error = load(&both, &[]).unwrap().chain.deployment().unwrap_err();
    assert!(error.message().contains("either"), "{error}");
    let error = load(EXAMPLE, &[]).unwrap().chain.deployment().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("deployment.toml"), "{error}");
}

#[test]
fn a_deployment_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deployment.toml");
    let address = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
    let text = format!("chain_id = 5\nstaking = \"{address}\"\npayments = \"{address}\"\n");
    std::fs::write(&path, text).unwrap();
    let deployment = read_deployment(&path).unwrap();
    assert_eq!(deployment.chain_id, 5);
    assert_eq!(deployment.staking.to_string(), address);
    std::fs::write(&path, "chain_id = 5\n").unwrap();
    assert_eq!(
        read_deployment(&path).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}
