//! The network: embeddings, layers of attention and perceptron, and the scores of the next token (Vaswani et al., 2017;
//! with the changes of Touvron et al., "LLaMA", 2023).

use candle_core::Tensor;

use super::config::Config;
use crate::kernels::{Activation, Heads, Kernels, Packed};
use crate::model::cache::{Cache, PageSize};
use crate::model::error::{Error, Result};
use crate::model::layers::{Projection, RmsNorm, SHARED_FROM, shared};
use crate::model::weights::{Part, Weights};

/// The next tokens of one text.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) tokens: &'a [u32],
    /// What is remembered of the tokens before; must have room for these.
    pub(crate) cache: &'a mut Cache,
    /// After how many of the tokens, counted from the last, scores are wanted.
    pub(crate) wanted: usize,
}

/// A language model's network.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The rows of the output layer's weight when absent.
    embeddings: Option<Packed>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Packed,
    config: Config,
}

impl Decoder {
    /// Builds the network from all its weights.
    pub(crate) fn load(weights: &Weights, config: Config, kernels: &dyn Kernels) -> Result<Self> {
        let (vocabulary, width) = (config.vocabulary, config.width);
        let model = weights.part("model");
        let layers = (0..config.windows.len())
            .map(|i| Layer::load(&model.at("layers").at(i), &config, i, kernels))
            .collect::<Result<_>>()?;
        let table = |part: &Part<'_>| -> Result<Packed> {
            Ok(kernels.pack(&part.tensor("weight", &[vocabulary, width])?)?)
        };
        let embeddings = table(&model.at("embed_tokens"))?;
        let (embeddings, head) = match config.tied {
            true => (None, embeddings),
            false => (Some(embeddings), table(&weights.part("lm_head"))?),
        };
        let decoder = Self {
            embeddings,
            layers,
            norm: norm(&model.at("norm"), width, &config)?,
            head,
            config,
        };
        // Tied weights may be stored twice; old files hold the angles as tensors.
        let tied = decoder.config.tied.then_some("lm_head.weight");
        let mut unused = vec![".rotary_emb.inv_freq", "model.rotary_emb."];
        unused.extend(tied);
        weights.finish(&unused)?;
        Ok(decoder)
    }

    /// The model's sizes.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Sizes of the memory that each text needs.
    pub(crate) fn page_size(&self) -> PageSize {
        PageSize {
            layers: self.layers.len(),
            width: self.config.key_heads * self.config.depth,
        }
    }

    /// How many texts a thread does best to take by itself, of `texts` that go on by `rows` tokens together: all of them,
    /// unless the layers are too small for several threads to share one.
    pub(crate) fn share(&self, texts: usize, rows: usize) -> usize {
        match self.multiplications(rows) >= SHARED_FROM {
            true => texts,
            false => texts.div_ceil(rayon::current_num_threads()),
        }
    }

    /// Those of the largest layer for so many tokens.
    fn multiplications(&self, rows: usize) -> usize {
        rows * self.config.width * self.config.vocabulary.max(2 * self.config.hidden)
    }

    /// Goes on with each text; gives the scores of its next token, `[wanted, vocabulary]`, chunk after chunk.
    ///
    /// A text's scores have the same bits whatever other texts there are and however its tokens were cut into chunks.
    /// Where this fails, what the caches remember is as before.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        batch: &mut [Chunk<'_>],
    ) -> Result<Vec<Vec<f32>>> {
        let tokens: Vec<u32> = batch
            .iter()
            .flat_map(|chunk| chunk.tokens)
            .copied()
            .collect();
        let positions: Vec<usize> = batch
            .iter()
            .flat_map(|chunk| (chunk.cache.length()..).take(chunk.tokens.len()))
            .collect();
        let device = kernels.device();
        let embeddings = self.embeddings.as_ref().unwrap_or(&self.head);
        let mut x = kernels.rows(embeddings, &tokens)?;
        if self.config.scaled {
            // The factor is an `f32` in the original, too.
            let factor = (self.config.width as f64).sqrt() as f32;
            x = x.affine(f64::from(factor), 0.0)?;
        }
        let angles = self.config.rotary.angles(&positions, device)?;
        let cost = self.multiplications(tokens.len());
        for (i, layer) in self.layers.iter().enumerate() {
            x = shared(cost, || layer.forward(kernels, &x, &angles, i, batch))?;
        }
        let mut wanted = Vec::new();
        let mut first = 0;
        for chunk in batch.iter() {
            let end = first + chunk.tokens.len();
            wanted.extend((end - chunk.wanted.min(chunk.tokens.len())..end).map(|row| row as u32));
            first = end;
        }
        let scores = if wanted.is_empty() {
            Vec::new()
        } else {
            let count = wanted.len();
            let x = x.index_select(&Tensor::from_vec(wanted, count, device)?, 0)?;
            let x = self.norm.forward(kernels, &x)?;
            kernels
                .project(&x, &self.head, None, Activation::Identity)?
                .to_vec2()?
        };
        for chunk in batch {
            chunk.cache.advance(chunk.tokens.len());
        }
        Ok(scores)
    }
}

/// One layer: attention, then a perceptron, each normalised before and added to its input.
#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    /// Queries, keys and values side by side.
    input: Projection,
    /// Normalisations of each head's queries and keys.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    output: Projection,
    perceptron_norm: RmsNorm,
    /// Gate and value side by side.
    up: Projection,
    down: Projection,
    heads: Heads,
    activation: Activation,
}

impl Layer {
    fn load(part: &Part<'_>, config: &Config, layer: usize, kernels: &dyn Kernels) -> Result<Self> {
        let (width, hidden, depth) = (config.width, config.hidden, config.depth);
        let (queries, keys) = (config.heads * depth, config.key_heads * depth);
        let attention = part.at("self_attn");
        let perceptron = part.at("mlp");
        let (inputs, ups): (&[_], &[_]) = if config.joined {
            (
                &[("qkv_proj", queries + 2 * keys)],
                &[("gate_up_proj", 2 * hidden)],
            )
        } else {
            (
                &[("q_proj", queries), ("k_proj", keys), ("v_proj", keys)],
                &[("gate_proj", hidden), ("up_proj", hidden)],
            )
        };
        let biased = config.perceptron_bias;
        Ok(Self {
            attention_norm: norm(&part.at("input_layernorm"), width, config)?,
            input: Projection::load(kernels, &attention, inputs, width, config.input_bias)?,
            head_norms: match config.head_norm {
                true => Some((
                    norm(&attention.at("q_norm"), depth, config)?,
                    norm(&attention.at("k_norm"), depth, config)?,
                )),
                false => None,
            },
            output: Projection::load(
                kernels,
                &attention,
                &[("o_proj", width)],
                queries,
                config.output_bias,
            )?,
            perceptron_norm: norm(&part.at("post_attention_layernorm"), width, config)?,
            up: Projection::load(kernels, &perceptron, ups, width, biased)?,
            down: Projection::load(
                kernels,
                &perceptron,
                &[("down_proj", width)],
                hidden,
                biased,
            )?,
            heads: Heads {
                queries: config.heads,
                keys: config.key_heads,
                depth,
                scale: 1.0 / (depth as f32).sqrt(),
                window: config.windows[layer],
            },
            activation: config.activation,
        })
    }

    fn forward(
        &self,
        kernels: &dyn Kernels,
        x: &Tensor,
        angles: &(Tensor, Tensor),
        layer: usize,
        batch: &[Chunk<'_>],
    ) -> Result<Tensor> {
        let Heads {
            queries,
            keys,
            depth,
            ..
        } = self.heads;
        let y = self.attention_norm.forward(kernels, x)?;
        let y = self.input.forward(kernels, &y)?;
        let part = |from: usize, heads: usize| y.narrow(1, from * depth, heads * depth);
        let (mut q, mut k) = (part(0, queries)?, part(queries, keys)?);
        let v = part(queries + keys, keys)?.contiguous()?;
        if let Some((q_norm, k_norm)) = &self.head_norms {
            q = q_norm.by_head(kernels, &q)?;
            k = k_norm.by_head(kernels, &k)?;
        }
        let (cos, sin) = angles;
        let q = kernels.rotate(&q, queries, cos, sin)?;
        let k = kernels.rotate(&k, keys, cos, sin)?;
        let mut spans = Vec::with_capacity(batch.len());
        let mut first = 0;
        for chunk in batch {
            let rows = chunk.tokens.len();
            let (k, v) = (k.narrow(0, first, rows)?, v.narrow(0, first, rows)?);
            chunk.cache.store(layer, &k, &v)?;
            spans.push(chunk.cache.span(layer, rows));
            first += rows;
        }
        let y = kernels.attend(&q, &spans, self.heads)?;
        let x = kernels.add(x, &self.output.forward(kernels, &y)?)?;
        let y = self.perceptron_norm.forward(kernels, &x)?;
        let y = self.up.forward(kernels, &y)?;
        let y = kernels.gated(&y, self.activation)?;
        Ok(kernels.add(&x, &self.down.forward(kernels, &y)?)?)
    }
}

/// A normalisation as the family has it.
fn norm(part: &Part<'_>, width: usize, config: &Config) -> Result<RmsNorm> {
    let weight = part.tensor("weight", &[width])?;
    let weight = match config.shifted {
        true => (weight + 1.0).map_err(Error::from)?,
        false => weight,
    };
    Ok(RmsNorm::of(weight, config.eps))
}
