//! The network: embeddings, then layers of attention and perceptron, each added to its input and normalised after (Devlin et
//! al., "BERT", 2019; Vaswani et al., 2017).

use candle_core::Tensor;

use super::config::Config;
use super::family::{FARTHEST, GROUPS, HEADS, Positions};
use crate::kernels::{Heads, Kernels, Packed};
use crate::model::distance;
use crate::model::error::Result;
use crate::model::layers::{LayerNorm, Projection, shared};
use crate::model::weights::{Part, Weights};

/// An encoder's network.
#[derive(Debug)]
pub(crate) struct Encoder {
    words: Packed,
    positions: Packed,
    /// What the first kind of tokens adds to all positions.
    kind: Option<Tensor>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// What distances add to attention, in all layers.
    distances: Option<Tensor>,
    config: Config,
}

impl Encoder {
    /// Builds the network from all its weights, for texts of up to `longest` tokens.
    pub(crate) fn load(
        weights: &Weights,
        config: Config,
        longest: usize,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let family = config.family;
        let width = config.width;
        let whole = weights.part("").has("embeddings.word_embeddings.weight");
        let model = weights.part(if whole { "" } else { family.root });
        let embeddings = model.at("embeddings");
        let table = |name: &str, rows: usize| embeddings.at(name).tensor("weight", &[rows, width]);
        let pack = |name: &str, rows| -> Result<Packed> { Ok(kernels.pack(&table(name, rows)?)?) };
        let kind = || -> Result<Tensor> {
            let kinds = table("token_type_embeddings", config.kinds)?;
            Ok(kinds.narrow(0, 0, 1)?)
        };
        let layers = model.at(family.names.layers);
        let distances = match family.distances {
            false => None,
            true => {
                let numbers = model
                    .at("encoder.relative_attention_bias")
                    .tensor("weight", &[GROUPS, config.heads])?;
                Some(distance::spread(&numbers, FARTHEST, longest)?)
            }
        };
        let encoder = Self {
            words: pack("word_embeddings", config.vocabulary)?,
            positions: pack("position_embeddings", config.positions)?,
            kind: (config.kinds > 0).then(kind).transpose()?,
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), width, config.eps)?,
            layers: (0..config.layers)
                .map(|i| Layer::load(&layers.at(i), &config, kernels))
                .collect::<Result<_>>()?,
            distances,
            config,
        };
        let pooler = format!("{}.pooler.", family.root);
        let mut unused = vec![".position_ids", &pooler];
        unused.extend(HEADS);
        weights.finish(&unused)?;
        Ok(encoder)
    }

    /// The model's sizes.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What each token of `texts` became, `[tokens, width]`, text after text.
    ///
    /// A text's rows have the same bits whatever other texts there are.
    pub(crate) fn forward(&self, kernels: &dyn Kernels, texts: &[&[u32]]) -> Result<Tensor> {
        let lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
        let tokens = texts.concat();
        let positions: Vec<_> = texts.iter().flat_map(|text| self.positions(text)).collect();
        let mut places = kernels.rows(&self.positions, &positions)?;
        if let Some(kind) = &self.kind {
            places = places.broadcast_add(kind)?;
        }
        let x = kernels.add(&kernels.rows(&self.words, &tokens)?, &places)?;
        let mut x = self.norm.forward(kernels, &x)?;
        let cost = tokens.len() * self.config.width * self.config.hidden;
        for layer in &self.layers {
            x = shared(cost, || {
                layer.forward(kernels, &x, &lengths, self.distances.as_ref())
            })?;
        }
        Ok(x)
    }

    /// Where in the table of positions each token of a text stands.
    fn positions(&self, text: &[u32]) -> Vec<u32> {
        let padding = self.config.padding;
        match self.config.family.positions {
            Positions::FromZero => (0..).take(text.len()).collect(),
            Positions::AfterPadding => {
                let mut next = padding;
                let place = |token: &u32| match *token == padding {
                    true => padding,
                    false => {
                        next += 1;
                        next
                    }
                };
                text.iter().map(place).collect()
            }
        }
    }
}

/// One layer.
#[derive(Debug)]
struct Layer {
    /// Queries, keys and values side by side.
    input: Projection,
    output: Projection,
    attention_norm: LayerNorm,
    up: Projection,
    down: Projection,
    norm: LayerNorm,
    heads: Heads,
}

impl Layer {
    fn load(part: &Part<'_>, config: &Config, kernels: &dyn Kernels) -> Result<Self> {
        let (width, hidden, names) = (config.width, config.hidden, &config.family.names);
        let depth = width / config.heads;
        let project = |name: &str, inputs, outputs| {
            Projection::load(kernels, part, &[(name, outputs)], inputs, true)
        };
        let side_by_side = names.inputs.map(|name| (name, width));
        Ok(Self {
            input: Projection::load(kernels, part, &side_by_side, width, true)?,
            output: project(names.output, width, width)?,
            attention_norm: LayerNorm::load(&part.at(names.attention_norm), width, config.eps)?,
            up: project(names.up, width, hidden)?.activated(config.activation),
            down: project(names.down, hidden, width)?,
            norm: LayerNorm::load(&part.at(names.norm), width, config.eps)?,
            heads: Heads {
                queries: config.heads,
                keys: config.heads,
                depth,
                scale: 1.0 / (depth as f32).sqrt(),
                window: None,
            },
        })
    }

    fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        lengths: &[usize],
        distances: Option<&Tensor>,
    ) -> Result<Tensor> {
        let width = self.heads.queries * self.heads.depth;
        let y = self.input.forward(kernels, x)?;
        let part = |i: usize| y.narrow(1, i * width, width);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let y = kernels.attend_all(&q, &k, &v, lengths, self.heads, distances)?;
        let y = self.output.forward(kernels, &y)?;
        let x = self.attention_norm.forward(kernels, &kernels.add(x, &y)?)?;
        let y = self.up.forward(kernels, &x)?;
        let y = self.down.forward(kernels, &y)?;
        self.norm.forward(kernels, &kernels.add(&x, &y)?)
    }
}
