//! Conversations to text: the Jinja template that a chat model comes with, rendered as transformers does.
//!
//! A template sees what it sees there: `messages`, `add_generation_prompt`, the special tokens, no tools. The day's date it
//! does not: two miners must make the same text of the same conversation, so templates that ask for it take the date they
//! hold for that case, or are refused where they hold none.

use std::collections::BTreeMap;

use cuckoo_core::Message;
use minijinja::{Environment, ErrorKind, Value};

use crate::model::error::{Error, Result};
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::marks::Marks;

/// A file of its own, which wins over the one below.
const FILE: &str = "chat_template.jinja";
const SETTINGS_FILE: &str = "tokenizer_config.json";
/// Special tokens that templates know by name.
const TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A chat model's template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    file: &'static str,
    source: String,
    tokens: BTreeMap<&'static str, String>,
}

impl ChatTemplate {
    /// Reads the template of a folder; `None` when it has none, as models that only complete.
    pub(crate) fn load(folder: &mut Folder, marks: &Marks) -> Result<Option<Self>> {
        let (file, source) = if folder.has(FILE) {
            let text = String::from_utf8(folder.bytes(FILE, SETTINGS_LIMIT)?);
            let text = text.map_err(|error| unusable(FILE, error))?;
            (FILE, Some(text))
        } else {
            (SETTINGS_FILE, within(marks)?)
        };
        let Some(source) = source else {
            return Ok(None);
        };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", refuse);
        environment
            .template_from_str(&source)
            .map_err(|error| unusable(file, error))?;
        let token = |key| Some((key, marks.token(key)?.to_owned()));
        Ok(Some(Self {
            environment,
            file,
            source,
            tokens: TOKENS.into_iter().filter_map(token).collect(),
        }))
    }

    /// The text of a conversation, ready for the model's answer.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String> {
        let mut context: BTreeMap<&str, Value> = self
            .tokens
            .iter()
            .map(|(key, token)| (*key, Value::from(token.as_str())))
            .collect();
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", Value::from(true));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        self.environment
            .template_from_str(&self.source)
            .and_then(|template| template.render(context))
            .map_err(|error| match error.kind() {
                // The template's own words: it takes no such conversation.
                ErrorKind::InvalidOperation => Error::request(
                    "messages",
                    format!("are none that the model's template takes: {error}"),
                ),
                _ => unusable(self.file, error),
            })
    }
}

/// The template in the tokenizer's settings: a text, or a list of them by name.
fn within(marks: &Marks) -> Result<Option<String>> {
    let value = match marks.value("chat_template") {
        None | Some(serde_json::Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let default = value
        .as_array()
        .and_then(|templates| templates.iter().find(|entry| entry["name"] == "default"));
    match default.map_or(value, |entry| &entry["template"]).as_str() {
        Some(source) => Ok(Some(source.to_owned())),
        None => Err(unusable(
            SETTINGS_FILE,
            "`chat_template` is neither a text nor a list with one called default",
        )),
    }
}

/// What templates call on a conversation they do not take.
fn refuse(message: String) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

fn unusable(file: &str, problem: impl ToString) -> Error {
    Error::Template {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::Role;

    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<Option<ChatTemplate>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let mut folder = Folder::open(dir.path())?;
        let marks = Marks::load(&mut folder, "")?;
        ChatTemplate::load(&mut folder, &marks)
    }

    fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.to_owned(),
        }
    }

    #[test]
    fn the_file_wins_over_the_settings_and_a_list_has_a_default() {
        let render = |files: &[(&str, &str)]| {
            let messages = [message(Role::User, "hi")];
            load(files).unwrap().unwrap().render(&messages).unwrap()
        };
        let text = r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}old"}"#;
        let list = r#"{"chat_template": [{"name": "tools", "template": "no"},
            {"name": "default", "template": "{{ messages[0].role }}"}]}"#;
        assert_eq!(render(&[(SETTINGS_FILE, text)]), "<s>old");
        assert_eq!(render(&[(SETTINGS_FILE, list)]), "user");
        assert_eq!(render(&[(SETTINGS_FILE, text), (FILE, "new")]), "new");
        assert!(load(&[]).unwrap().is_none());
        assert!(load(&[(SETTINGS_FILE, "{}")]).unwrap().is_none());
    }

    #[test]
    fn what_fails_is_named_and_blames_who_is_to_blame() {
        for files in [
            &[(FILE, "{% for %}")][..],
            &[(SETTINGS_FILE, r#"{"chat_template": 5}"#)],
            &[(SETTINGS_FILE, r#"{"chat_template": []}"#)],
        ] {
            let message = load(files).unwrap_err().to_string();
            assert!(message.starts_with(files[0].0), "{message}");
        }
        let render = |template| {
            let template = load(&[(FILE, template)]).unwrap().unwrap();
            template.render(&[message(Role::User, "x")]).unwrap_err()
        };
        let refused = render("{{ raise_exception('no users') }}");
        assert!(matches!(
            &refused,
            Error::Request {
                field: "messages",
                ..
            }
        ));
        assert!(refused.to_string().contains("no users"));
        let dated = render("{{ strftime_now('%Y') }}");
        assert!(matches!(dated, Error::Template { .. }), "{dated}");
    }
}
