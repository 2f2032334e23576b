//! The network that writes down: layers over the tokens so far and over what was heard, and the scores of the next token
//! (Radford et al., 2022).

use candle_core::Tensor;

use super::config::Config;
use super::layers::{Attention, EPS, Perceptron};
use crate::kernels::{Activation, Kernels, Packed, Span};
use crate::model::cache::{Cache, PAGE, PageSize};
use crate::model::error::Result;
use crate::model::layers::LayerNorm;
use crate::model::weights::Part;

#[derive(Debug)]
pub(crate) struct Decoder {
    /// Rows are the tokens' embeddings, and the weights of their scores.
    tokens: Packed,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    width: usize,
}

#[derive(Debug)]
struct Layer {
    /// Over the tokens so far.
    own: Attention,
    /// Over what was heard.
    heard: Attention,
    perceptron: Perceptron,
}

/// Keys and values of a window, for each layer in pages.
#[derive(Debug)]
pub(crate) struct Heard {
    layers: Vec<Vec<(Tensor, Tensor)>>,
    moments: usize,
}

impl Decoder {
    pub(crate) fn load(part: &Part<'_>, config: &Config, kernels: &dyn Kernels) -> Result<Self> {
        let (width, stack) = (config.width, config.decoder);
        let layers = part.at("layers");
        let layer = |i: usize| -> Result<_> {
            let layer = layers.at(i);
            Ok(Layer {
                own: Attention::load(kernels, &layer, "self_attn", config, stack)?,
                heard: Attention::load(kernels, &layer, "encoder_attn", config, stack)?,
                perceptron: Perceptron::load(kernels, &layer, config, stack)?,
            })
        };
        let tokens = part
            .at("embed_tokens")
            .tensor("weight", &[config.vocabulary, width])?;
        Ok(Self {
            tokens: kernels.pack(&tokens)?,
            positions: part
                .at("embed_positions")
                .tensor("weight", &[config.targets, width])?,
            layers: (0..stack.layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&part.at("layer_norm"), width, EPS)?,
            width,
        })
    }

    /// Sizes of the memory of the tokens so far.
    pub(crate) fn page_size(&self) -> PageSize {
        PageSize {
            layers: self.layers.len(),
            width: self.width,
        }
    }

    /// Computes what all tokens of a window will look at: `encoded` is `[moments, width]`.
    pub(crate) fn hear(&self, kernels: &dyn Kernels, encoded: &Tensor) -> Result<Heard> {
        let moments = encoded.dim(0)?;
        let pages = |x: Tensor| -> Result<Vec<Tensor>> {
            let beyond = moments.next_multiple_of(PAGE) - moments;
            let x = x.pad_with_zeros(0, 0, beyond)?;
            let starts = (0..moments).step_by(PAGE);
            starts.map(|start| Ok(x.narrow(0, start, PAGE)?)).collect()
        };
        let layer = |layer: &Layer| -> Result<Vec<(Tensor, Tensor)>> {
            let keys = pages(layer.heard.key.forward(kernels, encoded)?)?;
            let values = pages(layer.heard.value.forward(kernels, encoded)?)?;
            Ok(keys.into_iter().zip(values).collect())
        };
        Ok(Heard {
            layers: self.layers.iter().map(layer).collect::<Result<_>>()?,
            moments,
        })
    }

    /// Goes on with `tokens` after those in `cache`, which has room for them; the scores of the next token after each of the
    /// last `wanted`.
    pub(crate) fn forward(
        &self,
        kernels: &dyn Kernels,
        tokens: &[u32],
        cache: &mut Cache,
        heard: &Heard,
        wanted: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let rows = tokens.len();
        let x = kernels.rows(&self.tokens, tokens)?;
        let mut x = kernels.add(&x, &self.positions.narrow(0, cache.length(), rows)?)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let Layer {
                own,
                heard: other,
                perceptron,
            } = layer;
            let y = own.norm.forward(kernels, &x)?;
            let q = own.query.forward(kernels, &y)?;
            let k = own.key.forward(kernels, &y)?;
            let v = own.value.forward(kernels, &y)?;
            cache.store(i, &k, &v)?;
            let y = kernels.attend(&q, &[cache.span(i, rows)], own.heads)?;
            x = kernels.add(&x, &own.output.forward(kernels, &y)?)?;
            let y = other.norm.forward(kernels, &x)?;
            let q = other.query.forward(kernels, &y)?;
            let y = kernels.attend(&q, &heard.spans(i, rows), other.heads)?;
            x = kernels.add(&x, &other.output.forward(kernels, &y)?)?;
            x = perceptron.forward(kernels, &x)?;
        }
        cache.advance(rows);
        let wanted = wanted.min(rows);
        let x = x.narrow(0, rows - wanted, wanted)?.contiguous()?;
        let x = self.norm.forward(kernels, &x)?;
        Ok(kernels
            .project(&x, &self.tokens, None, Activation::Identity)?
            .to_vec2()?)
    }
}

impl Heard {
    /// Rows that each see all of the window, as the last row of a text sees all of it.
    fn spans(&self, layer: usize, rows: usize) -> Vec<Span<'_>> {
        let span = Span {
            start: self.moments - 1,
            rows: 1,
            pages: self.layers[layer].iter().map(|(k, v)| (k, v)).collect(),
        };
        vec![span; rows]
    }
}
