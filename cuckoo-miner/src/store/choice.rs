//! Which files of a model are pulled: those that executors read.

use std::collections::BTreeSet;

use glob::Pattern;

/// Parts of a pipeline in the layout of diffusers that no executor reads.
const UNREAD_PARTS: [&str; 3] = ["safety_checker", "feature_extractor", "image_encoder"];

/// Chooses among the paths of a model.
#[derive(Debug)]
pub(super) enum Choice {
    /// What executors read.
    Executors,
    /// What one of the patterns matches.
    Matching(Vec<Pattern>),
}

impl Choice {
    /// What the patterns match, or what executors read where there are none; on failure, the pattern that is none.
    pub(super) fn new(include: &[String]) -> Result<Self, String> {
        if include.is_empty() {
            return Ok(Self::Executors);
        }
        let pattern = |text: &String| {
            Pattern::new(text).map_err(|error| format!("`{text}` is not a pattern: {error}"))
        };
        Ok(Self::Matching(
            include.iter().map(pattern).collect::<Result<_, _>>()?,
        ))
    }

    /// The chosen ones; on failure, why nothing can be chosen.
    pub(super) fn of<'a>(&self, paths: &[&'a str]) -> Result<BTreeSet<&'a str>, String> {
        let chosen = match self {
            Self::Executors => read_by_executors(paths)?,
            Self::Matching(patterns) => paths
                .iter()
                .filter(|path| patterns.iter().any(|pattern| pattern.matches(path)))
                .copied()
                .collect(),
        };
        match (chosen.is_empty(), self) {
            (false, _) => Ok(chosen),
            (true, Self::Matching(_)) => {
                Err("no file of it matches --include; look at its list of files on the hub".into())
            }
            (true, Self::Executors) => {
                Err("it has no weights in safetensors or GGUF, which is what miners read; look for a conversion of it".into())
            }
        }
    }
}

fn read_by_executors<'a>(paths: &[&'a str]) -> Result<BTreeSet<&'a str>, String> {
    let mut chosen = BTreeSet::new();
    if paths.contains(&"model_index.json") {
        chosen.insert("model_index.json");
        let parts: BTreeSet<&str> = paths
            .iter()
            .filter_map(|path| path.split_once('/'))
            .filter(|(part, rest)| !rest.contains('/') && !UNREAD_PARTS.contains(part))
            .map(|(part, _)| part)
            .collect();
        for part in parts {
            chosen.extend(of_part(paths, part));
        }
        return Ok(with_weights(chosen));
    }
    chosen.extend(of_part(paths, ""));
    // The modules of sentence-transformers: `1_Pooling`, `2_Dense`.
    let modules: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| path.split_once('/'))
        .filter(|(part, _)| is_module(part))
        .map(|(part, _)| part)
        .collect();
    for module in modules {
        chosen.extend(of_part(paths, module));
    }
    if chosen.iter().any(|path| path.ends_with(".safetensors")) {
        return Ok(chosen);
    }
    match gguf(paths)? {
        Some(file) => {
            chosen.insert(file);
            Ok(chosen)
        }
        None => Ok(BTreeSet::new()),
    }
}

fn with_weights(chosen: BTreeSet<&str>) -> BTreeSet<&str> {
    match chosen.iter().any(|path| path.ends_with(".safetensors")) {
        true => chosen,
        false => BTreeSet::new(),
    }
}

fn is_module(part: &str) -> bool {
    part.split_once('_')
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// What is read directly in the folder `part` (the model's own where that is empty).
fn of_part<'a>(paths: &[&'a str], part: &str) -> Vec<&'a str> {
    let inside: Vec<(&'a str, &'a str)> = paths
        .iter()
        .filter_map(|path| match part {
            "" => Some((*path, *path)),
            part => Some((*path, path.strip_prefix(part)?.strip_prefix('/')?)),
        })
        .filter(|(_, name)| !name.contains('/'))
        .collect();
    let names: Vec<&str> = inside.iter().map(|(_, name)| *name).collect();
    let weights = weights(&names);
    inside
        .into_iter()
        .filter(|(_, name)| is_settings(name) || weights.contains(name))
        .map(|(path, _)| path)
        .collect()
}

/// Settings, vocabularies, templates; no weights in other formats, no pictures, nothing to read for people.
fn is_settings(name: &str) -> bool {
    let text = name.to_ascii_lowercase();
    let for_people = ["readme", "license", "notice", "use_policy", "requirements"];
    if text.starts_with('.') || for_people.iter().any(|start| text.starts_with(start)) {
        return false;
    }
    // An index belongs to weights, and is chosen with them.
    let index = text.contains(".index.") && text.ends_with(".json");
    !index
        && [".json", ".jinja", ".txt", ".model"]
            .iter()
            .any(|end| text.ends_with(end))
}

/// The weights that are read, of all that a folder has: first a single file, then its variant of half the size, then what
/// an index joins; and others only where none has a known name.
fn weights<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let tensors = |name: &&&str| name.ends_with(".safetensors");
    for stem in ["model", "diffusion_pytorch_model"] {
        let single = [
            format!("{stem}.safetensors"),
            format!("{stem}.fp16.safetensors"),
        ];
        if let Some(name) = single
            .iter()
            .find_map(|single| names.iter().find(|name| *name == single))
        {
            return vec![name];
        }
        let index = format!("{stem}.safetensors.index.json");
        if let Some(index) = names.iter().find(|name| **name == index) {
            let shard = |name: &&&str| {
                tensors(name)
                    && name
                        .strip_prefix(stem)
                        .is_some_and(|rest| rest.starts_with('-') && rest.contains("-of-"))
            };
            return names.iter().filter(shard).chain([index]).copied().collect();
        }
    }
    let ends = |name: &&&str| tensors(name) || name.ends_with(".safetensors.index.json");
    names.iter().filter(ends).copied().collect()
}

/// The only file in GGUF; such folders often have a dozen, of which one is wanted.
fn gguf<'a>(paths: &[&'a str]) -> Result<Option<&'a str>, String> {
    let files: Vec<&str> = paths
        .iter()
        .filter(|path| path.ends_with(".gguf"))
        .copied()
        .collect();
    match files[..] {
        [] => Ok(None),
        [file] => Ok(Some(file)),
        [first, ..] => Err(format!(
            "it has {} files in GGUF, of which one is enough; choose with --include, such as --include '{first}'",
            files.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&str]) -> Vec<String> {
        let chosen = Choice::Executors.of(paths).unwrap();
        chosen.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_language_model_is_its_settings_and_one_form_of_its_weights() {
        let paths = [
            ".gitattributes",
            "LICENSE.txt",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "generation_config.json",
            "logo.png",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "original/params.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(
            chosen(&paths),
            [
                "config.json",
                "generation_config.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ]
        );
    }

    #[test]
    fn a_pipeline_is_its_parts_without_variants_and_checkpoints() {
        let paths = [
            "model_index.json",
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "v1-5-pruned.safetensors",
        ];
        assert_eq!(
            chosen(&paths),
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "tokenizer/merges.txt",
                "tokenizer/vocab.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.fp16.safetensors",
            ]
        );
    }

    #[test]
    fn a_pipeline_in_shards_is_its_parts_without_its_first_checkpoint() {
        let paths = [
            "ae.safetensors",
            "flux1-dev.safetensors",
            "model_index.json",
            "text_encoder_2/config.json",
            "text_encoder_2/model-00001-of-00002.safetensors",
            "text_encoder_2/model-00002-of-00002.safetensors",
            "text_encoder_2/model.safetensors.index.json",
            "tokenizer_2/spiece.model",
            "tokenizer_2/tokenizer.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            "vae/diffusion_pytorch_model.safetensors",
        ];
        assert_eq!(chosen(&paths), paths[2..]);
    }

    #[test]
    fn an_embedding_model_has_its_modules() {
        let paths = [
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "config.json",
            "model.safetensors",
            "modules.json",
            "openvino/openvino_model.xml",
        ];
        assert_eq!(
            chosen(&paths),
            [paths[0], paths[1], paths[2], paths[3], paths[4]]
        );
    }

    #[test]
    fn gguf_is_taken_alone_or_by_choice() {
        assert_eq!(chosen(&["a.Q4.gguf", "README.md"]), ["a.Q4.gguf"]);
        let two = ["a.Q4.gguf", "a.Q8.gguf", "config.json"];
        assert!(
            Choice::Executors
                .of(&two)
                .unwrap_err()
                .contains("--include")
        );
        let one = Choice::new(&["*Q8*".to_owned()]).unwrap();
        assert_eq!(
            one.of(&two).unwrap().into_iter().collect::<Vec<_>>(),
            ["a.Q8.gguf"]
        );
    }

    #[test]
    fn nothing_to_run_is_said() {
        let error = Choice::Executors
            .of(&["pytorch_model.bin", "config.json"])
            .unwrap_err();
        assert!(error.contains("safetensors"), "{error}");
        let none = Choice::new(&["*.xyz".to_owned()]).unwrap();
        assert!(none.of(&["config.json"]).unwrap_err().contains("--include"));
        assert!(Choice::new(&["a[".to_owned()]).is_err());
    }
}
