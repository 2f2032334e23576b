//! The families of encoders that are run, and in what they differ.

/// Groups of distances, and from where on all distances are one group; MPNet has no others.
pub(crate) const GROUPS: usize = 32;
pub(crate) const FARTHEST: usize = 128;

/// Which number the first token's position has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// 0, and one more for each token.
    FromZero,
    /// One after the number of the padding token. A padding token within a text stays at that number itself, and is not
    /// counted.
    AfterPadding,
}

/// Names of settings, where families have their own.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) width: &'static str,
    pub(crate) hidden: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) heads: &'static str,
    pub(crate) activation: &'static str,
    /// Without one, the number is 1e-12.
    pub(crate) eps: Option<&'static str>,
}

/// Names of a layer's parts.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) layers: &'static str,
    /// Queries, keys and values.
    pub(crate) inputs: [&'static str; 3],
    pub(crate) output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) norm: &'static str,
}

/// What tells one architecture from another.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its names in `architectures`: the encoder alone, and with the output layer it was trained with.
    pub(crate) architectures: [&'static str; 2],
    /// What comes before the names of tensors in files that hold more than the encoder.
    pub(crate) root: &'static str,
    pub(crate) keys: Keys,
    pub(crate) names: Names,
    pub(crate) positions: Positions,
    /// Embeddings tell kinds of tokens apart, of which a text that stands alone has the first.
    pub(crate) kinds: bool,
    /// Attention is shifted by how far tokens are from each other.
    pub(crate) distances: bool,
}

const BERT: Family = Family {
    architectures: ["BertModel", "BertForMaskedLM"],
    root: "bert",
    keys: Keys {
        width: "hidden_size",
        hidden: "intermediate_size",
        layers: "num_hidden_layers",
        heads: "num_attention_heads",
        activation: "hidden_act",
        eps: Some("layer_norm_eps"),
    },
    names: Names {
        layers: "encoder.layer",
        inputs: [
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
        ],
        output: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        up: "intermediate.dense",
        down: "output.dense",
        norm: "output.LayerNorm",
    },
    positions: Positions::FromZero,
    kinds: true,
    distances: false,
};

const ROBERTA: Family = Family {
    architectures: ["RobertaModel", "RobertaForMaskedLM"],
    root: "roberta",
    positions: Positions::AfterPadding,
    ..BERT
};

/// The families; a folder's `architectures` says which it is.
pub(crate) const FAMILIES: [Family; 5] = [
    BERT,
    ROBERTA,
    Family {
        architectures: ["XLMRobertaModel", "XLMRobertaForMaskedLM"],
        ..ROBERTA
    },
    Family {
        architectures: ["DistilBertModel", "DistilBertForMaskedLM"],
        root: "distilbert",
        keys: Keys {
            width: "dim",
            hidden: "hidden_dim",
            layers: "n_layers",
            heads: "n_heads",
            activation: "activation",
            eps: None,
        },
        names: Names {
            layers: "transformer.layer",
            inputs: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
            output: "attention.out_lin",
            attention_norm: "sa_layer_norm",
            up: "ffn.lin1",
            down: "ffn.lin2",
            norm: "output_layer_norm",
        },
        kinds: false,
        ..BERT
    },
    Family {
        architectures: ["MPNetModel", "MPNetForMaskedLM"],
        root: "mpnet",
        names: Names {
            inputs: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
            output: "attention.attn.o",
            attention_norm: "attention.LayerNorm",
            ..BERT.names
        },
        positions: Positions::AfterPadding,
        kinds: false,
        distances: true,
        ..BERT
    },
];

/// Tensors of output layers, which an embedding does not pass through.
pub(crate) const HEADS: [&str; 6] = [
    "cls.",
    "lm_head.",
    "pooler.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
];
