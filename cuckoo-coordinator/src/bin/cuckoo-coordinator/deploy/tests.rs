use cuckoo_core::{ErrorKind, cai};

use super::*;

const EXAMPLE: &str = include_str!("../../../../deploy.example.toml");

fn read(text: &str) -> Result<DeployConfig> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deploy.toml");
    std::fs::write(&path, text).unwrap();
    settings(Some(&path), None)
}

#[test]
fn the_example_is_the_public_network_in_words() {
    assert_eq!(read(EXAMPLE).unwrap(), DeployConfig::mainnet());
    let fields = serde_json::to_value(DeployConfig::testnet()).unwrap();
    let mut names: Vec<_> = fields.as_object().unwrap().keys().collect();
    for table in ["court", "faucet"] {
        names.retain(|name| *name != table);
        names.extend(fields[table].as_object().unwrap().keys());
    }
    for name in names {
        let stated = format!("\n{name} = ");
        let optional = format!("\n#! {name} = ");
        assert!(
            EXAMPLE.contains(&stated) || EXAMPLE.contains(&optional),
            "the example leaves out {name}"
        );
    }
}

#[test]
fn every_line_that_is_commented_out_can_be_used() {
    let all: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#! ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    let config = read(&all).unwrap();
    assert!(config.faucet.is_some() && config.admin.is_some() && config.guardian.is_some());
}

#[test]
fn what_the_file_says_changes_the_preset() {
    let config =
        read("preset = \"testnet\"\nminer_minimum = \"10\"\n[court]\nbond = \"600.5\"").unwrap();
    let testnet = DeployConfig::testnet();
    assert_eq!(config.miner_minimum, cai(10));
    assert_eq!(config.court.bond, cai(1_201) / cuckoo_core::U256::from(2));
    assert_eq!(config.court.jury_size, testnet.court.jury_size);
    assert_eq!(config.faucet, testnet.faucet);

    let bare =
        read("preset = \"testnet\"\nfaucet = \"none\"\ntimelock_seconds = \"none\"").unwrap();
    assert_eq!((bare.faucet, bare.timelock_seconds), (None, None));
    assert_eq!(read("").unwrap(), DeployConfig::mainnet());
    assert_eq!(
        settings(None, Some(Preset::Demo)).unwrap(),
        DeployConfig::demo()
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (text, named) in [
        ("colour = 1", "colour"),
        ("[court]\ncolour = 1", "colour"),
        ("preset = \"moon\"", "moon"),
        ("epoch_seconds = \"long\"", "epoch_seconds"),
        ("epoch_seconds = -1", "epoch_seconds"),
        ("burn_bps = 70000", "burn_bps"),
        ("miner_minimum = \"much\"", "miner_minimum"),
        ("[court]\nbond = \"-1\"", "court.bond"),
        ("[faucet]\namount = \"1\"", "holding_cap"),
        ("court = \"none\"", "court"),
        ("epoch_seconds = ", "deploy.toml"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}");
        assert!(error.to_string().contains(named), "{text}: {error}");
    }
    let none = settings(Some(Path::new("/nowhere/deploy.toml")), None).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert!(none.message().contains("deploy.example.toml"), "{none}");
}
