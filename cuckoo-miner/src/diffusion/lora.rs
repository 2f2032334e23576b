//! LoRAs: small changes of a pipeline's weights, added to them when they are read (Hu et al., 2022). In the naming of
//! diffusers and peft, and in that of kohya's scripts, which most published ones have.

mod names;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::folder::Folder;
use super::settings::Settings;
use super::weights::{LowRank, Weights};
use names::{Key, Place, Side};

/// Where diffusers notes how a LoRA was set up.
const NOTE: &str = "lora_adapter_metadata";
/// The largest scale, either way: published ones are used at 0.5 to 1.5.
const SCALE_LIMIT: f64 = 100.0;
/// Keys that an error names.
const NAMED: usize = 5;

/// A LoRA to merge into a pipeline's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// A safetensors file as diffusers, peft or kohya's scripts write it.
    pub file: PathBuf,
    /// How strongly it counts, 1 when absent; below 0 it counts the other way.
    #[serde(default = "whole")]
    pub scale: f64,
}

fn whole() -> f64 {
    1.0
}

/// All LoRAs of a pipeline, while it is loaded.
#[derive(Debug)]
pub(crate) struct Loras(Vec<Loaded>);

#[derive(Debug)]
struct Loaded {
    file: String,
    weights: Rc<Weights>,
    scale: f64,
    modules: BTreeMap<Place, Module>,
    /// What the file notes of each part, beside its tensors.
    alphas: HashMap<&'static str, f32>,
}

/// The change of one layer.
#[derive(Debug, Default)]
struct Module {
    down: Option<String>,
    up: Option<String>,
    alpha: Option<String>,
    used: Cell<bool>,
}

impl Loras {
    /// Opens the files. Each counts for the folder's hash, by its place, scale and content.
    pub(crate) fn open(folder: &mut Folder, loras: &[Lora], device: &Device) -> Result<Self> {
        let open = |(i, lora): (usize, &Lora)| {
            let file = lora.file.display().to_string();
            let scale = lora.scale;
            if !(-SCALE_LIMIT..=SCALE_LIMIT).contains(&scale) {
                let problem = format!("its scale is {scale}; at most {SCALE_LIMIT} is merged");
                return Err(Error::Lora { file, problem });
            }
            let opened = folder.outside(&lora.file, &format!("lora/{i}@{scale:?}"))?;
            let weights = Rc::new(Weights::single(opened, &file, device)?);
            Ok(Loaded {
                modules: modules(&file, &weights)?,
                alphas: alphas(&file, &weights)?,
                file,
                weights,
                scale,
            })
        };
        loras
            .iter()
            .enumerate()
            .map(open)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Has the changes of `part` (a pipeline's sub-folder) added to its weights when they are read.
    pub(crate) fn merge(&self, part: &str, weights: &mut Weights) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let layers = names::layers(part, weights);
        for lora in &self.0 {
            let modules = lora.modules.iter().filter(|(place, _)| place.part == part);
            for (place, module) in modules {
                if let Some(tensor) = layers.get(&place.layer) {
                    weights.add(tensor, lora.low_rank(place, module)?);
                    module.used.set(true);
                }
            }
        }
        Ok(())
    }

    /// Fails where something of a LoRA found no layer.
    pub(crate) fn finish(&self) -> Result<()> {
        for lora in &self.0 {
            let unused: Vec<&str> = lora
                .modules
                .values()
                .filter(|module| !module.used.get())
                .filter_map(|module| {
                    let half = module.down.as_deref().or(module.up.as_deref());
                    half.or(module.alpha.as_deref())
                })
                .collect();
            if !unused.is_empty() {
                return Err(lora.error(format!(
                    "{} of its parts match no layer of this pipeline: {}; it was made for another kind of model",
                    unused.len(),
                    named(&unused),
                )));
            }
        }
        Ok(())
    }
}

impl Loaded {
    fn low_rank(&self, place: &Place, module: &Module) -> Result<LowRank> {
        let (Some(down), Some(up)) = (&module.down, &module.up) else {
            let half = module.down.as_ref().or(module.up.as_ref());
            let half = half.or(module.alpha.as_ref()).map_or("", String::as_str);
            return Err(self.error(format!("`{half}` lacks its other half")));
        };
        let rank = self.weights.shape(down).first().copied().unwrap_or(1) as f32;
        let alpha = match &module.alpha {
            Some(alpha) => match self.weights.values(alpha)?[..] {
                [alpha] => Some(alpha),
                _ => return Err(self.error(format!("`{alpha}` is not one number"))),
            },
            None => self.alphas.get(place.part).copied(),
        };
        Ok(LowRank {
            source: Rc::clone(&self.weights),
            down: down.clone(),
            up: up.clone(),
            factor: alpha.map_or(1.0, |alpha| alpha / rank) * self.scale as f32,
        })
    }

    fn error(&self, problem: String) -> Error {
        Error::Lora {
            file: self.file.clone(),
            problem,
        }
    }
}

/// The tensors of a file by the layer they change.
fn modules(file: &str, weights: &Weights) -> Result<BTreeMap<Place, Module>> {
    let mut modules = BTreeMap::<Place, Module>::new();
    let mut strange = Vec::new();
    for name in weights.names() {
        let Some(Key { place, side }) = Key::parse(name) else {
            strange.push(name);
            continue;
        };
        let module = modules.entry(place).or_default();
        let slot = match side {
            Side::Down => &mut module.down,
            Side::Up => &mut module.up,
            Side::Alpha => &mut module.alpha,
        };
        *slot = Some(name.to_owned());
    }
    strange.sort_unstable();
    match strange[..] {
        [] if !modules.is_empty() => Ok(modules),
        [] => Err(Error::Lora {
            file: file.to_owned(),
            problem: "it has no tensors".to_owned(),
        }),
        _ => Err(Error::Lora {
            file: file.to_owned(),
            problem: format!(
                "{} of its tensors are no halves of a product that this miner knows: {}",
                strange.len(),
                named(&strange)
            ),
        }),
    }
}

/// What peft noted of each part: a number that divided by the rank is a factor.
fn alphas(file: &str, weights: &Weights) -> Result<HashMap<&'static str, f32>> {
    let Some(note) = weights.note(NOTE) else {
        return Ok(HashMap::new());
    };
    let mut s = Settings::parse(&format!("{file} {NOTE}"), note.as_bytes())?;
    let mut alphas = HashMap::new();
    for part in names::PARTS {
        for key in ["use_rslora", "use_dora", "use_qalora"] {
            s.only(&format!("{part}.{key}"), &[serde_json::json!(false)])?;
        }
        let pattern = format!("{part}.alpha_pattern");
        s.only(&pattern, &[serde_json::json!({})])?;
        let key = format!("{part}.lora_alpha");
        if let Some(value) = s.take(&key) {
            match value.as_f64() {
                Some(alpha) => drop(alphas.insert(part, alpha as f32)),
                None => return Err(s.error(&key, format!("must be a number, not {value}"))),
            }
        }
    }
    Ok(alphas)
}

/// The first of some keys.
fn named(keys: &[&str]) -> String {
    let mut text = keys
        .iter()
        .take(NAMED)
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if keys.len() > NAMED {
        text.push_str(", ...");
    }
    text
}
