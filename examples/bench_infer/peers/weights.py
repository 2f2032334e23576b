"""Writes models of well-known shapes with random weights, in the layouts that both sides read.

    python weights.py pipeline FOLDER TOKENIZER   # Stable Diffusion 1.5
    python weights.py flux FOLDER TOKENIZER       # FLUX.1 schnell with a tenth of its blocks, in bfloat16
    python weights.py language FOLDER             # Qwen2 with half a billion numbers
    python weights.py language-bf16 FOLDER        # the same, rounded to bfloat16
    python weights.py encoder FOLDER              # all-MiniLM-L6

TOKENIZER is a folder with the few words of a small CLIP tokenizer.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import torch


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def pipeline(folder, words):
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    parts = {
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                projection_dim=768,
            )
        ),
        # What else its configuration says are diffusers' defaults.
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        "vae": AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        ),
        "scheduler": DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            timestep_spacing="trailing",
        ),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    clip_tokenizer(folder, words)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index)


def flux(folder, words):
    """Its transformer in all widths; text encoders and an autoencoder that are small, but for the widths that must fit."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

    vocabulary = json.loads((words / "vocab.json").read_text())
    end = vocabulary["<|endoftext|>"]
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,"]
    # Numbers come about in 16 bits at once: in 32 they would take twice the folder's memory.
    torch.set_default_dtype(torch.bfloat16)
    parts = {
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=768,
                intermediate_size=768,
                num_hidden_layers=1,
                num_attention_heads=12,
                bos_token_id=vocabulary["<|startoftext|>"],
                eos_token_id=end,
                pad_token_id=end,
            )
        ),
        "text_encoder_2": T5EncoderModel(
            T5Config(
                vocab_size=len(marks) + len(letters) + 1,
                d_model=4096,
                d_kv=64,
                d_ff=256,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        ),
        # What else its configuration says are diffusers' defaults: 24 heads of 128 numbers.
        "transformer": FluxTransformer2DModel(num_layers=2, num_single_layers=4),
        "vae": AutoencoderKL(
            block_out_channels=(32,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
            sample_size=512,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0),
        "tokenizer_2": T5Tokenizer(vocab=marks + letters, extra_ids=1, model_max_length=256),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    clip_tokenizer(folder, words)
    index = {
        "_class_name": "FluxPipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index)


def clip_tokenizer(folder, words):
    """The small tokenizer, for prompts as long as CLIP's are."""
    shutil.copytree(words, folder / "tokenizer")
    settings = json.loads((words / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer/tokenizer_config.json", {**settings, "model_max_length": 77})


def language(folder, dtype=torch.float32):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).to(dtype).save_pretrained(folder)
    words(folder, config.vocab_size)


def encoder(folder):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=12,
        max_position_embeddings=512,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    words(folder, config.vocab_size)


def words(folder, count):
    """A tokenizer with a word for each token, so that a text says which tokens it is made of."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(count)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    kind, folder, *rest = sys.argv[1:]
    # Whole or not there at all: what is interrupted is made anew.
    unfinished = Path(folder + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    torch.manual_seed(20)
    models = {
        "pipeline": pipeline,
        "flux": flux,
        "language": language,
        "language-bf16": partial(language, dtype=torch.bfloat16),
        "encoder": encoder,
    }
    models[kind](unfinished, *map(Path, rest))
    unfinished.rename(folder)
