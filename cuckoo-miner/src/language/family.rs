//! The families of models that are run, and in what they differ.

use crate::kernels::Activation;

/// Where a layer looks no further back than the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Nowhere; a window is refused.
    None,
    /// In every layer, when the configuration has a window.
    All,
    /// From `max_window_layers` on, when `use_sliding_window` is set.
    Upper,
}

/// Which linear layers are shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biases {
    None,
    /// Queries, keys and values.
    Inputs,
    /// Those and the attention's output, when `attention_bias` is set.
    AsSet,
    /// As [`AsSet`](Self::AsSet), and the perceptron's when `mlp_bias` is set.
    AllAsSet,
}

/// What tells one architecture from another.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name in `architectures`.
    pub(crate) architecture: &'static str,
    pub(crate) windows: Windows,
    pub(crate) biases: Biases,
    /// Queries, keys and values are one tensor in the file, and so are gate and value of the perceptron.
    pub(crate) joined: bool,
    /// Each head's queries and keys are normalised.
    pub(crate) head_norm: bool,
    /// Numbers in a head, where that is not the width over the heads.
    pub(crate) depth: Option<usize>,
    pub(crate) activation: Activation,
    /// Norms are stored less one and embeddings are multiplied by the root of their width; they serve as the output
    /// layer unless the configuration says otherwise.
    pub(crate) scaled: bool,
}

const LLAMA: Family = Family {
    architecture: "LlamaForCausalLM",
    windows: Windows::None,
    biases: Biases::AllAsSet,
    joined: false,
    head_norm: false,
    depth: None,
    activation: Activation::Silu,
    scaled: false,
};

pub(crate) const FAMILIES: [Family; 6] = [
    LLAMA,
    Family {
        architecture: "MistralForCausalLM",
        windows: Windows::All,
        biases: Biases::None,
        ..LLAMA
    },
    Family {
        architecture: "Qwen2ForCausalLM",
        windows: Windows::Upper,
        biases: Biases::Inputs,
        ..LLAMA
    },
    Family {
        architecture: "Qwen3ForCausalLM",
        windows: Windows::Upper,
        biases: Biases::AsSet,
        head_norm: true,
        depth: Some(128),
        ..LLAMA
    },
    Family {
        architecture: "Phi3ForCausalLM",
        windows: Windows::All,
        biases: Biases::None,
        joined: true,
        ..LLAMA
    },
    Family {
        architecture: "GemmaForCausalLM",
        biases: Biases::AsSet,
        depth: Some(256),
        activation: Activation::GeluTanh,
        scaled: true,
        ..LLAMA
    },
];
