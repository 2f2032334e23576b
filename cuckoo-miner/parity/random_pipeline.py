"""Writes small pipelines with random weights, and LoRAs for them.

    python random_pipeline.py random FOLDER   # in the manner of Stable Diffusion 2
    python random_pipeline.py xl FOLDER       # in the manner of Stable Diffusion XL
    python random_pipeline.py loras FOLDER    # FOLDER/loras, for FOLDER/random and FOLDER/xl

The first differs from the shapes model in everything a configuration can say:
four resolutions with and without attention, two layers a block, other head
counts at each, linear projections, another frequency convention, exact GELU.
Folders have the classic layout of published checkpoints.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

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


XL_SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}

XL_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
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


def save_parts(folder, parts, generator):
    shutil.rmtree(folder, ignore_errors=True)
    for part, model, stem in parts:
        randomise(model, generator)
        model.half().save_pretrained(folder / part)
        path = folder / part / f"{stem}.safetensors"
        prefix = "text_model." if part == "text_encoder" else ""
        tensors = {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        # T5's table of tokens by its second name.
        tensors.pop("encoder.embed_tokens.weight", None)
        save_file(tensors, path, metadata={"format": "pt"})


def save_tokenizer(folder, vocab, merges, pad):
    write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": POSITIONS} | marks,
    )
    write_json(folder / "special_tokens_map.json", marks)


def random(folder):
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
    parts = [
        ("text_encoder", text_encoder, "model"),
        ("unet", unet, "diffusion_pytorch_model"),
        ("vae", vae, "diffusion_pytorch_model"),
    ]
    save_parts(folder, parts, generator)
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler/scheduler_config.json", SCHEDULER)
    save_tokenizer(folder / "tokenizer", vocab, merges, PAD)


def xl(folder):
    generator = torch.Generator().manual_seed(21)
    vocab, merges = vocabulary()
    sizes = {
        "vocab_size": len(vocab),
        "max_position_embeddings": POSITIONS,
        "bos_token_id": vocab[START],
        "pad_token_id": vocab[END],
        "num_hidden_layers": 2,
    }
    first = CLIPTextModel(
        CLIPTextConfig(
            **sizes, hidden_size=12, intermediate_size=20, num_attention_heads=3, eos_token_id=vocab[END], projection_dim=12
        )
    )
    # As published: an end of text that is none, and so the token of the highest number.
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(
            **sizes,
            hidden_size=16,
            intermediate_size=24,
            num_attention_heads=2,
            eos_token_id=2,
            projection_dim=10,
            hidden_act="gelu",
        )
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(4, 8, 12),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=28,
        attention_head_dim=[1, 2, 3],
        transformer_layers_per_block=[1, 1, 2],
        use_linear_projection=True,
        norm_num_groups=2,
        addition_embed_type="text_time",
        addition_time_embed_dim=6,
        projection_class_embeddings_input_dim=46,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=32,
        scaling_factor=0.13025,
        force_upcast=True,
    )
    parts = [
        ("text_encoder", first, "model"),
        ("text_encoder_2", second, "model"),
        ("unet", unet, "diffusion_pytorch_model"),
        ("vae", vae, "diffusion_pytorch_model"),
    ]
    save_parts(folder, parts, generator)
    write_json(folder / "model_index.json", XL_INDEX)
    write_json(folder / "scheduler/scheduler_config.json", XL_SCHEDULER)
    save_tokenizer(folder / "tokenizer", vocab, merges, END)
    save_tokenizer(folder / "tokenizer_2", vocab, merges, PAD)


def first_names(layer):
    """A layer of the second pipeline's UNet in the naming of Stability's first code, which kohya's scripts keep."""
    for here, there in [
        ("down_blocks.1.attentions.0", "input_blocks.4.1"),
        ("down_blocks.1.attentions.1", "input_blocks.5.1"),
        ("down_blocks.2.attentions.0", "input_blocks.7.1"),
        ("down_blocks.2.attentions.1", "input_blocks.8.1"),
        ("mid_block.attentions.0", "middle_block.1"),
        *((f"up_blocks.{i}.attentions.{j}", f"output_blocks.{i * 3 + j}.1") for i in range(2) for j in range(3)),
    ]:
        layer = layer.replace(here + ".", there + ".")
    return layer


def loras(folder):
    """One as diffusers writes it, and one for each pipeline as kohya's scripts do."""
    generator = torch.Generator().manual_seed(22)
    for name, pipeline, rank, alpha in [("diffusers", "random", 2, None), ("kohya", "random", 3, 1.5), ("kohya_xl", "xl", 2, 1.0)]:
        tensors = {}
        for i, part in enumerate(["unet", "text_encoder", "text_encoder_2"]):
            file = folder / pipeline / part / ("diffusion_pytorch_model" if part == "unet" else "model")
            if not file.with_suffix(".safetensors").exists():
                continue
            weights = load_file(file.with_suffix(".safetensors"))
            layers = sorted(
                layer.removesuffix(".weight")
                for layer in weights
                if layer.endswith((".to_q.weight", ".to_v.weight", ".to_out.0.weight", "ff.net.2.weight", "q_proj.weight", "fc1.weight"))
            )
            if alpha is not None:
                # diffusers 0.42 with transformers 5 leaves out what kohya's files hold of a text encoder's attention.
                layers = [layer for layer in layers if not layer.endswith("q_proj")]
            for layer in layers[:: 2 if part == "unet" else 1]:
                out, width = weights[layer + ".weight"].shape
                down = torch.randn(rank, width, generator=generator) / width**0.5
                up = torch.randn(out, rank, generator=generator) * 0.5
                if alpha is None:
                    tensors |= {f"{part}.{layer}.lora_A.weight": down, f"{part}.{layer}.lora_B.weight": up}
                    continue
                prefix = ["lora_unet_", "lora_te1_" if pipeline == "xl" else "lora_te_", "lora_te2_"][i]
                key = first_names(layer) if (part, pipeline) == ("unet", "xl") else layer
                key = prefix + key.replace(".", "_")
                tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}
        (folder / "loras").mkdir(exist_ok=True)
        tensors = {key: tensor.half().contiguous() for key, tensor in tensors.items()}
        save_file(tensors, folder / "loras" / f"{name}.safetensors")


if __name__ == "__main__":
    {"random": random, "xl": xl, "loras": loras}[sys.argv[1]](Path(sys.argv[2]))
