use proptest::prelude::*;

use crate::ErrorKind;

use super::*;

fn logprob(token: &str, logprob: f64) -> TokenLogprob {
    TokenLogprob {
        token: token.to_owned(),
        logprob,
        top: vec![TopLogprob {
            token: "b".to_owned(),
            logprob: f64::NEG_INFINITY,
        }],
    }
}

#[test]
fn an_output_is_its_lines() {
    let mut writer = TextWriter::default();
    writer.text("one\n\"two\"");
    writer.piece(TextPiece {
        text: "a".to_owned(),
        logprobs: vec![logprob("a", -0.5)],
    });
    let output = writer.end(FinishReason::Length);
    let lines = "{\"text\":\"one\\n\\\"two\\\"\"}\n\
        {\"text\":\"a\",\"logprobs\":[{\"token\":\"a\",\"logprob\":-0.5,\"top\":[{\"token\":\"b\",\"logprob\":-9999.0}]}]}\n\
        {\"finish_reason\":\"length\"}\n";
    assert_eq!(String::from_utf8_lossy(&output.bytes), lines);
    let read = TextOutput::read(&output).unwrap();
    assert_eq!(read.text, "one\n\"two\"a");
    assert_eq!(read.finish_reason, FinishReason::Length);
    assert_eq!(read.logprobs[0].top[0].logprob, -9_999.0);
}

#[test]
fn what_is_no_text_is_refused() {
    for bad in [
        "",
        "{\"text\":\"a\"}\n",
        "{\"finish_reason\":\"stop\"}",
        "{\"finish_reason\":\"stop\"}\n ",
        "{\"finish_reason\":\"stop\"}\n{\"text\":\"a\"}\n",
        "{\"finish_reason\":\"bored\"}\n",
        "{\"txet\":\"a\"}\n{\"finish_reason\":\"stop\"}\n",
        "[]\n",
        "\n",
    ] {
        let error = TextOutput::read(&Output::new(TextOutput::MEDIA_TYPE, bad.to_owned()));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Execution, "{bad:?}");
    }
    let typed = Output::new("text/plain", "{\"finish_reason\":\"stop\"}\n");
    assert!(TextOutput::read(&typed).is_err());
    let endless = vec![b' '; TextReader::MAX_LINE + 1];
    assert!(TextReader::default().read(&endless).is_err());
}

proptest! {
    #[test]
    fn however_it_is_cut_it_reads_the_same(
        pieces in prop::collection::vec(".{0,12}", 0..12),
        cuts in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let mut writer = TextWriter::default();
        for piece in &pieces {
            writer.text(piece.as_str());
        }
        let output = writer.end(FinishReason::Stop);
        let (mut reader, mut lines) = (TextReader::default(), Vec::new());
        let (mut bytes, mut cuts) = (&output.bytes[..], cuts.iter().cycle());
        while !bytes.is_empty() {
            let (head, tail) = bytes.split_at(bytes.len().min(*cuts.next().unwrap()));
            prop_assert!(!reader.is_complete());
            lines.extend(reader.read(head).unwrap());
            bytes = tail;
        }
        prop_assert!(reader.is_complete());
        prop_assert_eq!(lines.len(), pieces.len() + 1);
        prop_assert_eq!(TextOutput::read(&output).unwrap().text, pieces.concat());
    }
}

#[test]
fn inputs_are_checked() {
    let chat = TextInput::read(
        r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}],
            "max_tokens": 5, "temperature": 0, "stop": ["\n"], "seed": 7}"#,
    )
    .unwrap();
    let TextPrompt::Messages(messages) = chat.prompt() else {
        panic!("{chat:?}")
    };
    assert_eq!((messages[0].role, messages.len()), (Role::System, 2));
    let completion = TextInput::read(r#"{"prompt": "Once upon", "logprobs": 0}"#).unwrap();
    assert_eq!(completion.prompt(), TextPrompt::Prompt("Once upon"));
    assert_eq!(
        serde_json::to_string(&completion).unwrap(),
        r#"{"prompt":"Once upon","logprobs":0}"#
    );
    for (bad, named) in [
        (r#"{"messages": []}"#, "messages"),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "prompt": "b"}"#,
            "messages",
        ),
        (r#"{"prompt": "a", "max_tokens": 0}"#, "max_tokens"),
        (r#"{"prompt": "a", "temperature": 2.1}"#, "temperature"),
        (r#"{"prompt": "a", "top_p": -0.1}"#, "top_p"),
        (
            r#"{"prompt": "a", "presence_penalty": 3}"#,
            "presence_penalty",
        ),
        (
            r#"{"prompt": "a", "frequency_penalty": -3}"#,
            "frequency_penalty",
        ),
        (r#"{"prompt": "a", "stop": [""]}"#, "stop"),
        (
            r#"{"prompt": "a", "stop": ["1", "2", "3", "4", "5"]}"#,
            "stop",
        ),
        (r#"{"prompt": "a", "logprobs": 21}"#, "logprobs"),
        (r#"{"prompt": "a", "max_token": 5}"#, "max_token"),
        (
            r#"{"messages": [{"role": "wizard", "content": "a"}]}"#,
            "wizard",
        ),
    ] {
        let error = TextInput::read(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        assert!(error.to_string().contains(named), "{bad}: {error}");
    }
}

#[test]
fn schemas_that_would_be_multiplied_out_are_short() {
    let fault = |schema: serde_json::Value| {
        let format = Some(TextFormat::JsonSchema { schema });
        let input = TextInput {
            format,
            ..TextInput::completion("a")
        };
        input.fault().map(|(_, message)| message)
    };
    let long = "a".repeat(TextFormat::MAX_JOINED_BYTES);
    let text = serde_json::json!({"type": "string", "pattern": long});
    let either = serde_json::json!([{"minLength": 1}, {"maxLength": 9}]);
    for taken in [
        serde_json::json!({"anyOf": [text, {"type": "null"}], "title": "x", "default": null}),
        serde_json::json!({"allOf": [{"$ref": "#/$defs/text"}], "description": "x", "$defs": {"text": text}}),
        // No keywords, but names.
        serde_json::json!({"properties": {"anyOf": text, "type": {"multipleOf": 2}}}),
    ] {
        assert_eq!(fault(taken), None);
    }
    for refused in [
        serde_json::json!({"type": "string", "pattern": long, "anyOf": either}),
        serde_json::json!({"allOf": [text, {"oneOf": either}]}),
        serde_json::json!({"items": {"$ref": "#/$defs/text", "minLength": 2}, "$defs": {"text": text}}),
    ] {
        let message = fault(refused).unwrap();
        assert!(message.contains("joins"), "{message}");
    }
}

#[test]
fn multiples_are_those_that_can_be_counted() {
    let fault = |schema: &str| {
        let json = format!(
            r#"{{"prompt": "a", "format": {{"type": "json_schema", "schema": {schema}}}}}"#
        );
        TextInput::read(&json).err()
    };
    for step in ["1", "0.01", "2.5", "10000", "0.0001"] {
        assert!(
            fault(&format!(r#"{{"multipleOf": {step}}}"#)).is_none(),
            "{step}"
        );
    }
    for step in [
        "0",
        "-1",
        "10001",
        "0.00001",
        "1e-9",
        "1000000000",
        "0.333333",
    ] {
        let error = fault(&format!(r#"{{"items": {{"multipleOf": {step}}}}}"#)).unwrap();
        assert!(error.message().contains("multipleOf"), "{step}: {error}");
    }
    assert!(fault(r#"{"items": [{"multipleOf": 2}, {"multipleOf": 3}]}"#).is_none());
    assert!(fault(r#"{"allOf": [{"multipleOf": 2}, {"multipleOf": 3}]}"#).is_some());
}

#[test]
fn formats_are_bounded() {
    let read = |format: &str| TextInput::read(&format!(r#"{{"prompt": "a", "format": {format}}}"#));
    assert_eq!(
        read(r#"{"type": "json_object"}"#).unwrap().format,
        Some(TextFormat::JsonObject)
    );
    let named = r#"{"type":"json_schema","schema":{"properties":{"z":{},"a":{"type":"null"}}}}"#;
    let input = read(named).unwrap();
    assert_eq!(
        serde_json::to_string(&input.format).unwrap(),
        named,
        "properties keep their order"
    );
    let lists = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let within = |depth| {
        format!(
            r#"{{"type": "json_schema", "schema": {{"a": {}}}}}"#,
            lists(depth)
        )
    };
    read(&within(TextFormat::MAX_DEPTH - 1)).unwrap();
    let long = format!(
        r#"{{"type": "json_schema", "schema": {{"title": "{}"}}}}"#,
        "a".repeat(TextFormat::MAX_BYTES)
    );
    for (bad, named) in [
        (within(TextFormat::MAX_DEPTH), "format.schema is deeper"),
        (long, "format.schema has"),
        (
            r#"{"type": "json_schema", "schema": [1]}"#.to_owned(),
            "format.schema is not",
        ),
        (r#"{"type": "json_schema"}"#.to_owned(), "schema"),
        (r#"{"type": "yaml"}"#.to_owned(), "yaml"),
        (
            r#"{"type": "json_schema", "schema": {}, "strict": true}"#.to_owned(),
            "strict",
        ),
    ] {
        let error = read(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}
