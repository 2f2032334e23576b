"""The parts of the shapes model and the folder they are saved in.

The folder is that of a published Stable Diffusion pipeline: classic CLIP
tokenizer files, `text_model.` key names, f16 safetensors. Recent transformers
releases write neither of the first two, so text encoder and tokenizer are
written by hand here.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from shapes import GRID, WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 24
"""Tokens of a prompt, start and end included; longer prompts are cut."""

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.42.0",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}


def _byte_characters() -> list[str]:
    """The 256 printable characters that stand for bytes in a CLIP vocabulary, in its order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges: bytes, bytes at a word's end, and one token for each word.

    Byte-pair encoding trained on the grammar's words until each is one token,
    so that any CLIP tokenizer arrives at those tokens and can still spell
    everything else.
    """
    spelled = {word: [*word[:-1], word[-1] + "</w>"] for word in WORDS}
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in spelled.values() for pair in zip(parts, parts[1:])):
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for word, parts in spelled.items():
            joined: list[str] = []
            for part in parts:
                if joined and joined[-1] == left and part == right:
                    joined[-1] = left + right
                else:
                    joined.append(part)
            spelled[word] = joined
    characters = _byte_characters()
    tokens = [*characters, *(c + "</w>" for c in characters), *(a + b for a, b in merges), START, END]
    return {token: index for index, token in enumerate(tokens)}, [f"{a} {b}" for a, b in merges]


def build_tokenizer() -> CLIPTokenizer:
    vocab, merges = vocabulary()
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=POSITIONS)


def caption_ids(tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Token ids of every caption of the grid, and of the empty caption last."""
    captions = [prompt.caption for prompt in GRID] + [""]
    ids = tokenizer(captions, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt")
    return ids.input_ids


def build_text_encoder() -> CLIPTextModel:
    vocab, _ = vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=64,
        intermediate_size=256,
        projection_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        bos_token_id=vocab[START],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
    )
    return CLIPTextModel(config)


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        force_upcast=False,
    )


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 64, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def _write_json(path: Path, value: object) -> None:
    _write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write_tensors(path: Path, state: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in state.items()}
    save_file(half, new, metadata={"format": "pt"})
    new.chmod(0o644)
    os.replace(new, path)


def _module_config(module: AutoencoderKL | UNet2DConditionModel) -> dict:
    """A diffusers module's configuration, without the name of the folder it came from."""
    config = json.loads(module.to_json_string())
    config.pop("_name_or_path", None)
    return config


def _save_tokenizer(folder: Path) -> None:
    vocab, merges = vocabulary()
    tokenizer = build_tokenizer()
    _write_json(folder / "vocab.json", vocab)
    _write(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    _write(folder / "tokenizer.json", tokenizer.backend_tokenizer.to_str(pretty=True) + "\n")

    def special(token: str, normalized: bool) -> dict:
        return {"content": token, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}

    named = {
        "bos_token": special(START, True),
        "eos_token": special(END, True),
        "unk_token": special(END, True),
    }
    _write_json(folder / "special_tokens_map.json", {**named, "pad_token": END})
    typed = {name: {"__type": "AddedToken", **token} for name, token in named.items()}
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            **typed,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": POSITIONS,
            "pad_token": END,
            "tokenizer_class": "CLIPTokenizer",
        },
    )


def _save_text_encoder(folder: Path, text_encoder: CLIPTextModel, state: dict[str, torch.Tensor]) -> None:
    chosen = (
        "vocab_size hidden_size intermediate_size projection_dim num_hidden_layers num_attention_heads "
        "max_position_embeddings hidden_act layer_norm_eps attention_dropout initializer_range "
        "initializer_factor bos_token_id eos_token_id pad_token_id"
    ).split()
    config = {name: getattr(text_encoder.config, name) for name in chosen}
    _write_json(
        folder / "config.json",
        {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "dropout": 0.0, **config, "torch_dtype": "float32"},
    )
    prefix = "text_model."
    named = {name if name.startswith(prefix) else prefix + name: value for name, value in state.items()}
    _write_tensors(folder / "model.safetensors", {n: v for n, v in named.items() if not n.endswith("position_ids")})


def export(
    folder: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    text_state: dict[str, torch.Tensor] | None = None,
    unet_state: dict[str, torch.Tensor] | None = None,
) -> int:
    """Writes the pipeline's folder, each file replaced as a whole; returns its size in bytes.

    The states, where given, are written in place of the modules' own weights.
    """
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": SCHEDULER["_diffusers_version"],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    _write_json(folder / "scheduler/scheduler_config.json", SCHEDULER)
    _save_tokenizer(folder / "tokenizer")
    _save_text_encoder(folder / "text_encoder", text_encoder, text_state or text_encoder.state_dict())
    for name, module, state in (("unet", unet, unet_state), ("vae", vae, None)):
        _write_json(folder / name / "config.json", _module_config(module))
        _write_tensors(folder / name / "diffusion_pytorch_model.safetensors", state or module.state_dict())
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
