"""Small pipelines of random weights in the manner of FLUX.1, and what diffusers computes with them.

    python flux.py model schnell FOLDER           # without guidance, a fixed shift
    python flux.py model dev FOLDER               # with guidance, a shift by the picture's size
    python flux.py reference FOLDER OUT.safetensors   # each stage, from our noise
    python flux.py schedules OUT.json             # noise levels alone
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from diffusers.models.autoencoders import vae as autoencoder
from diffusers.pipelines.flux import pipeline_flux_img2img as image_pipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer
from transformers.utils.logging import disable_progress_bar as disable_transformers_progress_bar

from naming import model_hash
from random_pipeline import END, POSITIONS, START, save_parts, save_tokenizer, vocabulary, write_json
from reference import ENCODER_STREAM, philox, picture

TIME = 321
INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
# As published.
SCHEDULERS = {
    "schnell": {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "use_dynamic_shifting": False,
    },
    "dev": {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": True,
    },
}
MODELS = {
    "schnell": {
        "seed": 30,
        "clip": {"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 3, "num_hidden_layers": 2, "eos_token_id": 2},
        "t5": {
            "d_model": 20,
            "d_kv": 6,
            "d_ff": 28,
            "num_heads": 3,
            "num_layers": 2,
            "relative_attention_num_buckets": 10,
            "relative_attention_max_distance": 17,
        },
        "tokens": 24,
        "transformer": {
            "num_layers": 2,
            "num_single_layers": 3,
            "num_attention_heads": 3,
            "attention_head_dim": 12,
            "axes_dims_rope": (2, 4, 6),
        },
        "vae": {"block_out_channels": (8, 12), "latent_channels": 5, "norm_num_groups": 4},
    },
    "dev": {
        "seed": 31,
        "clip": {"hidden_size": 10, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1},
        "t5": {"d_model": 14, "d_kv": 5, "d_ff": 22, "num_heads": 2, "num_layers": 3},
        "tokens": 40,
        "transformer": {
            "num_layers": 1,
            "num_single_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "axes_dims_rope": (4, 6, 6),
            "guidance_embeds": True,
        },
        "vae": {"block_out_channels": (4, 8, 8), "latent_channels": 16, "norm_num_groups": 2},
    },
}
SMALL = {"prompt": "a large red circle", "width": 32, "height": 24}
REQUESTS = {
    "schnell": [
        (SMALL | {"steps": 4, "guidance": 0.0, "seed": 1}, {}),
        ({"prompt": "Café 日本, naïve " * 9, "width": 44, "height": 36, "steps": 1, "guidance": 9.0, "seed": 2**63 + 5}, {}),
        (SMALL | {"prompt": "", "steps": 3, "guidance": 0.0, "seed": 2, "sampler": "euler"}, {}),
        (SMALL | {"steps": 5, "guidance": 0.0, "seed": 3, "strength": 0.7}, {"image": (41, 19)}),
    ],
    "dev": [
        (SMALL | {"steps": 6, "guidance": 3.5, "seed": 4}, {}),
        (SMALL | {"prompt": "blue  background " * 20, "width": 72, "height": 88, "steps": 4, "guidance": 1.5, "seed": 5}, {}),
        (SMALL | {"steps": 8, "guidance": 7.0, "seed": 6, "strength": 0.45}, {"image": (50, 24)}),
    ],
}


def pieces():
    """A vocabulary of pieces with logarithms of how likely they are, as SentencePiece's unigram model has it."""
    words = ["a", "large", "red", "circle", "blue", "background", "naï", "ve", "cir", "back"]
    whole = [(f"▁{word}", -3.0 - i / 7) for i, word in enumerate(words)]
    inside = [(word, -4.5 - i / 5) for i, word in enumerate(words) if len(word) > 1]
    letters = [(letter, -6.0 - i / 11) for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzéï,.")]
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.5), *whole, *inside, *letters, ("<extra_id_0>", 0.0)]


def model(name, folder):
    sizes = MODELS[name]
    generator = torch.Generator().manual_seed(sizes["seed"])
    vocab, merges = vocabulary()
    table = pieces()
    clip = CLIPTextModel(
        CLIPTextConfig(
            **({"eos_token_id": vocab[END]} | sizes["clip"]),
            vocab_size=len(vocab),
            max_position_embeddings=POSITIONS,
            bos_token_id=vocab[START],
            pad_token_id=vocab[END],
        )
    )
    # More rows than there are pieces, as in the published one.
    t5 = T5EncoderModel(T5Config(**sizes["t5"], vocab_size=len(table) + 3, feed_forward_proj="gated-gelu"))
    blocks = len(sizes["vae"]["block_out_channels"])
    vae = AutoencoderKL(
        **sizes["vae"],
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )
    transformer = FluxTransformer2DModel(
        **sizes["transformer"],
        in_channels=4 * sizes["vae"]["latent_channels"],
        joint_attention_dim=sizes["t5"]["d_model"],
        pooled_projection_dim=sizes["clip"]["hidden_size"],
    )
    parts = [
        ("text_encoder", clip, "model"),
        ("text_encoder_2", t5, "model"),
        ("transformer", transformer, "diffusion_pytorch_model"),
        ("vae", vae, "diffusion_pytorch_model"),
    ]
    save_parts(folder, parts, generator)
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler/scheduler_config.json", SCHEDULERS[name])
    save_tokenizer(folder / "tokenizer", vocab, merges, END)
    T5Tokenizer(vocab=table, extra_ids=1, model_max_length=sizes["tokens"]).save_pretrained(folder / "tokenizer_2")


def use_noise(seed):
    """Has every draw of diffusers come from our streams."""
    for module, stream in [(autoencoder, ENCODER_STREAM), (image_pipeline, 0)]:
        module.randn_tensor = lambda shape, stream=stream, **_: philox(seed, math.prod(shape), stream).reshape(shape)


@torch.no_grad()
def reference(folder, out):
    pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    tokens = pipe.tokenizer_2.model_max_length
    scale, channels = pipe.vae_scale_factor, pipe.vae.config.latent_channels
    named = model_hash(folder)
    tensors, cases, requests = {}, [], REQUESTS[folder.name]
    for i, (request, case) in enumerate(requests):
        height, width = request["height"], request["width"]
        shape = (1, channels, height // scale, width // scale)
        noise = philox(request["seed"], math.prod(shape)).reshape(shape)
        packed = FluxPipeline._pack_latents(noise, *shape)
        unpack = lambda latents: FluxPipeline._unpack_latents(latents, height, width, scale)
        prompt, pooled, text_ids = pipe.encode_prompt(request["prompt"], max_sequence_length=tokens, device="cpu")
        guided = pipe.transformer.config.guidance_embeds
        predicted = pipe.transformer(
            hidden_states=packed,
            encoder_hidden_states=prompt,
            pooled_projections=pooled,
            timestep=torch.tensor([TIME / 1000]),
            guidance=torch.tensor([request["guidance"]]) if guided else None,
            txt_ids=text_ids,
            img_ids=FluxPipeline._prepare_latent_image_ids(1, shape[2] // 2, shape[3] // 2, "cpu", torch.float32),
        ).sample
        stages = {"noise": noise, "prompt": prompt, "pooled": pooled, "transformer": unpack(predicted)}
        arguments = {
            "prompt": request["prompt"],
            "num_inference_steps": request["steps"],
            "guidance_scale": request["guidance"],
            "max_sequence_length": tokens,
            "height": height,
            "width": width,
            "output_type": "latent",
        }
        run = pipe
        if "image" in case:
            run = FluxImg2ImgPipeline(**{name: part for name, part in pipe.components.items() if part is not None})
            start = picture(*case["image"])
            stages["input"] = torch.from_numpy(np.asarray(start).copy())
            arguments |= {"image": start.resize((width, height), Image.LANCZOS), "strength": request["strength"]}
        else:
            arguments["latents"] = packed.clone()
        run.set_progress_bar_config(disable=True)
        use_noise(request["seed"])
        latents = unpack(run(**arguments).images)
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample
        decoded = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
        stages |= {"latents": latents, "image": torch.from_numpy(np.asarray(decoded).copy())}
        tensors |= {f"{i}.{stage}": value.contiguous() for stage, value in stages.items()}
        cases.append({"scheduler": None, "loras": [], "hash": named})
        spread = decoded.convert("L").getextrema()
        print(f"{out.stem} {i}: latents rms {latents.pow(2).mean().sqrt():.3f}, grey {spread[0]} to {spread[1]}")
    golden = {"requests": [request for request, _ in requests], "cases": cases, "time": TIME}
    save_file(tensors, out, metadata={"golden": json.dumps(golden)})


def schedules(out):
    """Noise levels of pictures of so many patches in so many steps."""
    cases = []
    for change in [
        {"shift": 1.0},
        {"shift": 3.0},
        {"shift": 3.0, "use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "base_shift": 0.3, "max_shift": 2.5, "base_image_seq_len": 100, "max_image_seq_len": 900},
    ]:
        for steps, patches in [(1, 256), (4, 4096), (28, 1024), (50, 6), (7, 16384)]:
            scheduler = FlowMatchEulerDiscreteScheduler(**change)
            config = scheduler.config
            shift = calculate_shift(
                patches, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
            )
            scheduler.set_timesteps(steps, sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)
            levels = {"sigmas": scheduler.sigmas.tolist(), "times": scheduler.timesteps.tolist()}
            cases.append({"config": change, "steps": steps, "patches": patches} | levels)
    out.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} schedules")


if __name__ == "__main__":
    torch.set_num_threads(1)
    disable_progress_bar()
    disable_transformers_progress_bar()
    match sys.argv[1:]:
        case ["model", name, folder]:
            model(name, Path(folder))
        case ["reference", folder, out]:
            reference(Path(folder), Path(out))
        case ["schedules", out]:
            schedules(Path(out))
        case _:
            sys.exit(__doc__)
