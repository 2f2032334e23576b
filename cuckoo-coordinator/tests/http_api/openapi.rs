//! The committed OpenAPI document against the code.

use serde_json::Value;

const COMMITTED: &str = include_str!("../../openapi.json");

#[test]
fn the_committed_document_is_the_generated_one() {
    assert!(
        cuckoo_coordinator::openapi() == COMMITTED,
        "the interface changed: run `make openapi` and commit cuckoo-coordinator/openapi.json"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_route_is_described() {
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 33);
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            for field in ["summary", "tags", "responses"] {
                assert!(
                    !operation[field].is_null(),
                    "{method} {path} has no {field}"
                );
            }
        }
    }
    for kind in ["requester", "session"] {
        assert_eq!(
            document["components"]["securitySchemes"][kind]["scheme"],
            "bearer"
        );
    }
}

#[test]
fn every_route_tells_what_it_refuses() {
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let mut expected = vec!["405"];
            if !operation["requestBody"].is_null() {
                expected.extend(["400", "408", "413"]);
            }
            if !operation["requestBody"]["content"]["application/json"].is_null() {
                expected.push("415");
            }
            if !operation["security"].is_null() {
                expected.extend(["401", "503"]);
            }
            if path.starts_with("/v1/") {
                expected.push("429");
            }
            for status in expected {
                let told = &operation["responses"][status];
                assert!(!told.is_null(), "{method} {path} does not tell of {status}");
            }
        }
    }
}

#[test]
fn text_in_a_form_of_its_own_has_a_pattern() {
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    for name in ["Word", "Address", "Amount", "ModelId", "Signature"] {
        let schema = &document["components"]["schemas"][name];
        assert!(schema["pattern"].is_string(), "{name}: {schema}");
    }
}

#[test]
fn each_signed_type_has_a_schema_of_its_own() {
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    let schemas = &document["components"]["schemas"];
    for (name, field) in [
        ("Receipt", "output_hash"),
        ("Session", "expiry"),
        ("SessionGrant", "token_hash"),
        ("Voucher", "cumulative"),
    ] {
        let value = &schemas[format!("Signed_{name}")]["properties"]["value"];
        assert!(
            !value["properties"][field].is_null(),
            "Signed_{name} does not say that {field} is signed"
        );
    }
    assert!(
        schemas["Signed"].is_null(),
        "a field's schema does not say what is signed"
    );
}

fn collect_references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(reference) if name == "$ref" => into.push(reference),
                    _ => collect_references(field, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}
