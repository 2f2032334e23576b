use std::collections::HashMap;

use config::Environment;
use cuckoo_core::{ErrorKind, cai};

use super::*;
use crate::log::LogFormat;

const EXAMPLE: &str = include_str!("../../../../coordinator.example.toml");

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.toml");
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

#[test]
fn logs_are_for_people_unless_the_settings_say_otherwise() {
    let format = |environment: &[_]| load(EXAMPLE, environment).map(|config| config.log.format);
    assert_eq!(format(&[]).unwrap(), LogFormat::Text);
    let json = [("CUCKOO_COORDINATOR__LOG__FORMAT", "json")];
    assert_eq!(format(&json).unwrap(), LogFormat::Json);
    let error = format(&[("CUCKOO_COORDINATOR__LOG__FORMAT", "xml")]).unwrap_err();
    assert!(error.to_string().contains("json"), "{error}");
}

#[test]
fn the_example_is_the_default_in_words() {
    let config = load(EXAMPLE, &[]).unwrap();
    let settings = config.settings();
    assert_eq!(settings.models[0].model.as_str(), "shapes");
    assert_eq!(
        Settings {
            models: Vec::new(),
            ..settings
        },
        Settings::default(),
        "the example states every default"
    );
    assert_eq!(config.http, HttpSettings::default());
    let store = StoreSettings {
        path: StoreSettings::default().path,
        ..config.store
    };
    assert_eq!(store, StoreSettings::default());
    let fields = [
        serde_json::to_value(Settings::default()).unwrap(),
        serde_json::to_value(HttpSettings::default()).unwrap(),
        serde_json::to_value(StoreSettings::default()).unwrap(),
        serde_json::to_value(TraceSettings::default()).unwrap(),
    ];
    for field in fields
        .iter()
        .flat_map(|fields| fields.as_object().unwrap().keys())
        .filter(|field| *field != "models")
    {
        assert!(
            EXAMPLE.contains(&format!("\n{field} = "))
                || EXAMPLE.contains(&format!("\n#! {field} = "))
                || EXAMPLE.contains(&format!("\n[settings.{field}]")),
            "the example leaves out {field}"
        );
    }
    assert!(config.listen.ip().is_loopback());
    assert_eq!(
        (config.listen, config.drain_seconds),
        (default_listen(), default_drain_seconds())
    );
}

#[test]
fn every_line_that_is_commented_out_can_be_used() {
    let all: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#! ").unwrap_or(line))
        .filter(|line| {
            !["deployment =", "key_file = \"app.key\""]
                .iter()
                .any(|other| line.starts_with(other))
        })
        .collect::<Vec<_>>()
        .join("\n");
    assert_ne!(all, EXAMPLE);
    let config = load(&all, &[]).unwrap();
    let [key] = config.api_keys.as_slice() else {
        panic!("{:?}", config.api_keys)
    };
    let written = serde_json::to_value(key).unwrap();
    let mut fields: Vec<_> = written.as_object().unwrap().keys().collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "burst",
            "key_hash",
            "max_open_tasks",
            "max_priority",
            "max_spend_per_day",
            "max_tasks_per_day",
            "name",
            "operator",
            "requests_per_second"
        ],
        "the example shows every field"
    );
    let tls = config.tls.as_ref().unwrap();
    assert!(tls.cert_file.is_absolute() && tls.key_file.is_absolute());
    let traces = config.otel.clone().unwrap();
    assert!(traces.endpoint.is_some());
    let traces = TraceSettings {
        endpoint: None,
        ..traces
    };
    assert_eq!(traces, TraceSettings::default());
    assert!(config.settings().models[0].model_hash.is_some());
    assert_eq!(config.chain.contracts().unwrap().market.chain_id, 31_337);
}

#[test]
fn the_environment_overrides_the_file() {
    let config = load(
        EXAMPLE,
        &[
            ("CUCKOO_COORDINATOR__LISTEN", "127.0.0.1:9000"),
            ("CUCKOO_COORDINATOR__CHAIN__RPC", "http://127.0.0.1:9545"),
            ("CUCKOO_COORDINATOR__SETTINGS__AUDIT_PROBABILITY", "0.5"),
            ("CUCKOO_COORDINATOR__SETTINGS__LEASE_MILLIS", "20000"),
        ],
    )
    .unwrap();
    assert_eq!(config.listen.port(), 9000);
    let rpc = format!("{:?}", config.chain.rpc());
    assert!(rpc.contains("http://127.0.0.1:9545"), "{rpc}");
    assert_eq!(config.settings().audit_probability, 0.5);
    assert_eq!(config.settings().lease_millis, 20_000);
}

#[test]
fn traces_are_sent_where_the_file_or_its_overrides_say() {
    assert_eq!(load(EXAMPLE, &[]).unwrap().otel, None);
    let ratio = |ratio| {
        let endpoint = (
            "CUCKOO_COORDINATOR__OTEL__ENDPOINT",
            "http://127.0.0.1:4318",
        );
        load(
            EXAMPLE,
            &[endpoint, ("CUCKOO_COORDINATOR__OTEL__SAMPLE_RATIO", ratio)],
        )
    };
    let traces = ratio("0.25").unwrap().otel.unwrap();
    assert_eq!(traces.endpoint.as_deref(), Some("http://127.0.0.1:4318"));
    assert_eq!(traces.sample_ratio, 0.25);
    let error = ratio("-1").unwrap_err();
    assert!(error.message().contains("otel.sample_ratio"), "{error}");
}

#[test]
fn prices_are_decimal_cai() {
    let price = |text: &str| {
        let file = EXAMPLE.replace("price = \"0.01\"", &format!("price = {text}"));
        assert_ne!(file, EXAMPLE);
        load(&file, &[]).map(|config| config.settings().models[0].price)
    };
    assert_eq!(price("\"2\"").unwrap(), cai(2));
    assert_eq!(
        price("\"0.25\"").unwrap(),
        cai(1) / cuckoo_core::U256::from(4)
    );
    assert!(price("\"cheap\"").is_err());
}

#[test]
fn what_is_wrong_is_named() {
    let replaced = |from: &str, to: &str| {
        assert!(EXAMPLE.contains(from), "{from}");
        EXAMPLE.replacen(from, to, 1)
    };
    for (text, environment, named) in [
        (format!("colour = 1\n{EXAMPLE}"), None, "colour"),
        (format!("{EXAMPLE}\nlease_milis = 1\n"), None, "lease_milis"),
        (replaced("rpc =", "rcp ="), None, "rcp"),
        (
            EXAMPLE.to_owned(),
            Some(("CUCKOO_COORDINATOR__SETTINGS__SPEED", "9")),
            "speed",
        ),
        (
            EXAMPLE.to_owned(),
            Some(("CUCKOO_COORDINATOR__LISTEN", "everywhere")),
            "listen",
        ),
        (
            replaced("lease_millis = 10000", "lease_millis = \"long\""),
            None,
            "lease_millis",
        ),
        (
            replaced("lease_millis = 10000", "lease_millis = 1"),
            None,
            "heartbeat_millis",
        ),
        (
            replaced("listen = \"127.0.0.1:8480\"", "listen = \"0.0.0.0:8480\""),
            None,
            "allow_public",
        ),
        (
            replaced("cors_origins = []", "cors_origins = [\"app.example.org\"]"),
            None,
            "cors_origins",
        ),
        (
            replaced("[http]", "[[api_keys]]\nname = \"app\"\n[http]"),
            None,
            "key_file",
        ),
        (
            replaced("[[models]]", "[[settings.models]]"),
            None,
            "models",
        ),
    ] {
        let variables: Vec<_> = environment.into_iter().collect();
        let error = load(&text, &variables).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{named}: {error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn a_public_address_is_fine_when_said_so() {
    let text = EXAMPLE
        .replace("listen = \"127.0.0.1:8480\"", "listen = \"0.0.0.0:8480\"")
        .replace("allow_public = false", "allow_public = true");
    assert!(load(&text, &[]).unwrap().allow_public);
}

#[test]
fn key_files_are_beside_the_settings() {
    let text = format!("{EXAMPLE}\n[[api_keys]]\nname = \"app\"\nkey_file = \"app.key\"\n");
    let config = load(&text, &[]).unwrap();
    let file = config.api_keys[0].key_file.as_ref().unwrap();
    assert!(file.is_absolute() && file.ends_with("app.key"), "{file:?}");
}

#[test]
fn no_file_is_said_with_the_example_to_copy() {
    let error = Config::load(Path::new("/nowhere/coordinator.toml")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("coordinator.example.toml"));
}
