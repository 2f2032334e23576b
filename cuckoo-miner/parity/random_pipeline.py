"""Writes a small Stable Diffusion pipeline with random weights.

It differs from the shapes model in everything a configuration can say: four
resolutions with and without attention, two layers a block, other head counts
at each, linear projections, another frequency convention, exact GELU. Its
folder has the classic layout of published checkpoints.

    python random_pipeline.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"
WORDS = ["red", "circle", "blue", "background", "large", "naïve"]
POSITIONS = 16

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 500,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
    "timestep_spacing": "leading",
}

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def vocabulary():
    """Bytes, bytes at a word's end, then merges that spell each word from the left."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(b) for b in visible] + [chr(256 + i) for i in range(256 - len(visible))]
    byte = dict(zip([*visible, *(b for b in range(256) if b not in visible)], characters))
    tokens, merges = characters + [c + "</w>" for c in characters], []
    for word in WORDS:
        parts = [byte[b] for b in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            parts[:2] = [parts[0] + parts[1]]
            if merge not in merges:
                merges.append(merge)
                tokens.append(parts[0])
    return {token: i for i, token in enumerate([*tokens, START, END])}, merges


def randomise(model, generator):
    """Weights of a size that keeps activations alive, so that every layer, shift and softmax counts."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            gain = 2.0 if any(part in name for part in ("to_q", "to_k", "q_proj", "k_proj", "query", "key")) else 1.0
            values *= gain / fan_in**0.5 if "embedding" not in name or "time" in name else 0.5
        else:
            values = values * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        parameter.data = values


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def main(folder):
    generator = torch.Generator().manual_seed(20)
    vocab, merges = vocabulary()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocab),
            hidden_size=20,
            intermediate_size=48,
            projection_dim=20,
            num_hidden_layers=3,
            num_attention_heads=5,
            max_position_embeddings=POSITIONS,
            hidden_act="gelu",
            bos_token_id=vocab[START],
            eos_token_id=vocab[END],
            pad_token_id=vocab[PAD],
        )
    )
    unet = UNet2DConditionModel(
        sample_size=[18, 14],
        block_out_channels=(8, 12, 12, 20),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=20,
        attention_head_dim=[2, 4, 6, 5],
        transformer_layers_per_block=[1, 1, 2, 1],
        use_linear_projection=True,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_num_groups=4,
        norm_eps=1e-4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 12, 12),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.7,
    )
    shutil.rmtree(folder, ignore_errors=True)
    for part, model, stem in [
        ("text_encoder", text_encoder, "model"),
        ("unet", unet, "diffusion_pytorch_model"),
        ("vae", vae, "diffusion_pytorch_model"),
    ]:
        randomise(model, generator)
        model.half().save_pretrained(folder / part)
        path = folder / part / f"{stem}.safetensors"
        prefix = "text_model." if part == "text_encoder" else ""
        tensors = {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, path, metadata={"format": "pt"})
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler/scheduler_config.json", SCHEDULER)
    write_json(folder / "tokenizer/vocab.json", vocab)
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    write_json(
        folder / "tokenizer/tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": POSITIONS,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": PAD,
        },
    )
    write_json(
        folder / "tokenizer/special_tokens_map.json",
        {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": PAD},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
