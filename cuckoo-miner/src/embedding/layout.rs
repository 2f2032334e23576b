//! What the files of sentence-transformers say of a folder: which steps follow the encoder, how long a text may be, what is
//! put before it. A folder that has none of them is an encoder alone.

use serde_json::json;

use crate::model::error::{Error, Result};
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;

pub(crate) const MODULES: &str = "modules.json";
const SENTENCES: &str = "config_sentence_transformers.json";
/// The encoder's own file, by its names through the years.
const ENCODERS: [&str; 4] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_xlm-roberta_config.json",
];

/// What happens to a text's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dense,
    Normalize,
}

/// A folder's steps, each with its sub-folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Where the encoder is: empty, or a sub-folder with its `/`.
    pub(crate) encoder: String,
    /// Where the settings of the pooling are; the mean where there are none.
    pub(crate) pooling: Option<String>,
    pub(crate) steps: Vec<(Kind, String)>,
    /// The most tokens of a text, where it is said.
    pub(crate) longest: Option<usize>,
    /// Texts are brought to lower case, whatever the tokenizer says.
    pub(crate) lower_case: bool,
    /// What is put before each text.
    pub(crate) prompt: String,
}

impl Layout {
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        let mut layout = Self::default();
        if !folder.has(MODULES) {
            return Ok(layout);
        }
        layout.modules(&folder.bytes(MODULES, SETTINGS_LIMIT)?)?;
        let names = ENCODERS.map(|name| format!("{}{name}", layout.encoder));
        if let Some(file) = names.iter().find(|name| folder.has(name)) {
            let bytes = folder.bytes(file, SETTINGS_LIMIT)?;
            layout.encoder_settings(Settings::parse(file, &bytes)?)?;
        }
        if folder.has(SENTENCES) {
            let bytes = folder.bytes(SENTENCES, SETTINGS_LIMIT)?;
            layout.prompts(Settings::parse(SENTENCES, &bytes)?)?;
        }
        Ok(layout)
    }

    fn modules(&mut self, bytes: &[u8]) -> Result<()> {
        /// The encoder, its pooling, and a handful more.
        const MOST: usize = 16;
        let modules = Settings::parse_list(MODULES, bytes)?;
        let count = modules.len();
        for (i, mut s) in modules.into_iter().enumerate() {
            let path = s.optional_text("path")?.unwrap_or_default();
            // A step lies within the folder: anything else would reach out of it.
            let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
            if !path.is_empty() && (path.contains('\\') || !path.split('/').all(plain)) {
                return Err(s.error("path", format!("is `{path}`, which is no folder's name")));
            }
            let kind = s.optional_text("type")?.unwrap_or_default();
            let name = match kind.strip_prefix("sentence_transformers.") {
                Some(rest) => rest.rsplit('.').next().unwrap_or_default(),
                None => "",
            };
            match (i, name) {
                (0, "Transformer") if path.is_empty() => {}
                (0, "Transformer") => self.encoder = format!("{path}/"),
                (1, "Pooling") => self.pooling = Some(path),
                (2..MOST, "Dense") => self.steps.push((Kind::Dense, path)),
                (2..MOST, "Normalize") => self.steps.push((Kind::Normalize, path)),
                _ => {
                    let problem = format!(
                        "is `{kind}` in place {i}; this miner runs Transformer, then Pooling, then any of Dense and Normalize of sentence_transformers"
                    );
                    return Err(s.error("type", problem));
                }
            }
            s.ignore(&["idx", "name", "kwargs"]);
            s.finish()?;
        }
        match count {
            0 | 1 => Err(Error::Setting {
                file: MODULES.to_owned(),
                key: "type".to_owned(),
                problem: format!("is there {count} times; Transformer and Pooling are the least"),
            }),
            _ => Ok(()),
        }
    }

    fn encoder_settings(&mut self, mut s: Settings) -> Result<()> {
        self.longest = s.optional_count("max_seq_length", 1..=1 << 24)?;
        self.lower_case = s.flag("do_lower_case", false)?;
        s.only("transformer_task", &[json!("feature-extraction")])?;
        let forward = json!({"method": "forward", "method_output_name": "last_hidden_state"});
        s.only("modality_config", &[json!({ "text": forward })])?;
        s.only("module_output_name", &[json!("token_embeddings")])?;
        for key in [
            "config_args",
            "config_kwargs",
            "model_args",
            "model_kwargs",
            "processing_kwargs",
            "processor_kwargs",
            "tokenizer_args",
        ] {
            s.only(key, &[json!({})])?;
        }
        // What it does for queries alone, and how it holds a batch.
        s.ignore(&[
            "query_length",
            "document_length",
            "query_expansion",
            "unpad_inputs",
        ]);
        s.finish()
    }

    fn prompts(&mut self, mut s: Settings) -> Result<()> {
        s.only("model_type", &[json!("SentenceTransformer")])?;
        let prompts = s.take("prompts");
        if let Some(name) = s.optional_text("default_prompt_name")? {
            let prompt = prompts.as_ref().and_then(|prompts| prompts[&name].as_str());
            match prompt {
                Some(prompt) => self.prompt = prompt.to_owned(),
                None => {
                    let problem = format!("is `{name}`, which is none of the prompts");
                    return Err(s.error("default_prompt_name", problem));
                }
            }
        }
        // How vectors are to be compared is up to whoever has them.
        s.ignore(&["similarity_fn_name", "requirements"]);
        s.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const BERT: (&str, &str) = ("sentence_transformers.models.Transformer", "");
    const POOLING: (&str, &str) = ("sentence_transformers.models.Pooling", "1_Pooling");
    const NORMALIZE: (&str, &str) = (
        "sentence_transformers.base.modules.normalize.Normalize",
        "2_Normalize",
    );

    fn modules(kinds: &[(&str, &str)]) -> Value {
        let module = |(i, (kind, path)): (usize, &(&str, &str))| json!({"idx": i, "name": i.to_string(), "path": path, "type": kind});
        kinds.iter().enumerate().map(module).collect()
    }

    fn load(files: &[(&str, Value)]) -> Result<Layout> {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        Layout::load(&mut Folder::open(dir.path())?)
    }

    #[test]
    fn what_the_files_say_is_taken() {
        assert_eq!(load(&[]).unwrap(), Layout::default());
        let layout = load(&[
            (MODULES, modules(&[BERT, POOLING, NORMALIZE])),
            (
                "sentence_bert_config.json",
                json!({"max_seq_length": 256, "do_lower_case": true}),
            ),
            (
                SENTENCES,
                json!({"__version__": {}, "prompts": {"query": "query: ", "none": ""}, "default_prompt_name": "query"}),
            ),
        ]);
        let expected = Layout {
            pooling: Some("1_Pooling".to_owned()),
            steps: vec![(Kind::Normalize, "2_Normalize".to_owned())],
            longest: Some(256),
            lower_case: true,
            prompt: "query: ".to_owned(),
            ..Layout::default()
        };
        assert_eq!(layout.unwrap(), expected);
        let apart = (BERT.0, "0_Transformer");
        let apart = load(&[(MODULES, modules(&[apart, POOLING]))]).unwrap();
        assert_eq!(apart.encoder, "0_Transformer/");
    }

    #[test]
    fn what_is_not_done_is_named() {
        let good = || (MODULES, modules(&[BERT, POOLING]));
        let lstm = ("sentence_transformers.models.LSTM", "1_LSTM");
        let foreign = ("somebody.Transformer", "");
        let outside = (POOLING.0, "../1_Pooling");
        let bert = "sentence_bert_config.json";
        for (files, named) in [
            (vec![(MODULES, modules(&[BERT, lstm, POOLING]))], "LSTM"),
            (vec![(MODULES, modules(&[foreign, POOLING]))], "somebody"),
            (vec![(MODULES, modules(&[BERT]))], "Pooling"),
            (vec![(MODULES, modules(&[BERT, outside]))], "../1_Pooling"),
            (vec![(MODULES, json!({}))], MODULES),
            (
                vec![good(), (bert, json!({"max_seq_length": 0}))],
                "max_seq_length",
            ),
            (
                vec![good(), (bert, json!({"trick": 1}))],
                "`trick` is unknown",
            ),
            (
                vec![good(), (bert, json!({"model_args": {"a": 1}}))],
                "model_args",
            ),
            (
                vec![good(), (SENTENCES, json!({"default_prompt_name": "q"}))],
                "default_prompt_name",
            ),
            (
                vec![good(), (SENTENCES, json!({"model_type": "SparseEncoder"}))],
                "SparseEncoder",
            ),
        ] {
            let message = load(&files).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
