//! The names of tensors.

/// How llama.cpp calls the tensor that a folder's weights have by this name.
pub(super) fn stored(name: &str) -> String {
    const LAYER: [(&str, &str); 12] = [
        ("input_layernorm.", "attn_norm."),
        ("self_attn.q_proj.", "attn_q."),
        ("self_attn.k_proj.", "attn_k."),
        ("self_attn.v_proj.", "attn_v."),
        ("self_attn.qkv_proj.", "attn_qkv."),
        ("self_attn.o_proj.", "attn_output."),
        ("self_attn.q_norm.", "attn_q_norm."),
        ("self_attn.k_norm.", "attn_k_norm."),
        ("post_attention_layernorm.", "ffn_norm."),
        ("mlp.gate_proj.", "ffn_gate."),
        ("mlp.up_proj.", "ffn_up."),
        ("mlp.down_proj.", "ffn_down."),
    ];
    // Gate and value in one: the converter keeps the name of the value for both.
    const JOINED: (&str, &str) = ("mlp.gate_up_proj.", "ffn_up.");
    let within = |rest: &str| {
        let (layer, rest) = rest.split_once('.')?;
        let (from, to) = LAYER
            .iter()
            .chain([&JOINED])
            .find(|(from, _)| rest.starts_with(from))?;
        Some(format!("blk.{layer}.{to}{}", &rest[from.len()..]))
    };
    match name {
        "model.embed_tokens.weight" => "token_embd.weight".to_owned(),
        "model.norm.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => "output.weight".to_owned(),
        _ => name
            .strip_prefix("model.layers.")
            .and_then(within)
            .unwrap_or_else(|| name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_its_tensors() {
        for (name, expected) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            (
                "model.layers.12.self_attn.q_proj.bias",
                "blk.12.attn_q.bias",
            ),
            (
                "model.layers.0.self_attn.q_norm.weight",
                "blk.0.attn_q_norm.weight",
            ),
            (
                "model.layers.3.mlp.gate_up_proj.weight",
                "blk.3.ffn_up.weight",
            ),
            ("rope_freqs.weight", "rope_freqs.weight"),
            ("model.layers.3.other.weight", "model.layers.3.other.weight"),
        ] {
            assert_eq!(stored(name), expected);
        }
    }
}
