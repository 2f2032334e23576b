"""Runs diffusers over a pipeline's folder and stores what it computed at each stage.

    python reference.py pipeline FOLDER OUT.safetensors   # pictures, from our noise
    python reference.py schedules OUT.json                # schedulers alone
"""

import hashlib
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar
from safetensors.torch import save_file
from transformers.utils.logging import disable_progress_bar as disable_transformers_progress_bar

SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}
UNET_TIME = 321

REQUESTS = [
    {
        "prompt": "a large red circle on a blue background",
        "negative_prompt": "  Blurry,\tNAÏVE 7-sided star's!",
        "steps": 10,
        "guidance": 2.5,
        "seed": 7,
        "sampler": "ddim",
    },
    {
        "prompt": "a small green square on a white background, " * 9,
        "width": 72,
        "height": 56,
        "steps": 7,
        "guidance": 1.5,
        "seed": 2**63 + 11,
        "sampler": "euler",
    },
    {"prompt": "", "steps": 4, "guidance": 1.0, "seed": 0, "sampler": "euler"},
    {"prompt": "Café 日本 🦜", "steps": 3, "guidance": 0.0, "seed": 1, "sampler": "ddim"},
]


def philox(seed, count):
    """Our noise: Philox4x32-10 and Box-Muller, as documented in cuckoo-miner/src/noise.rs."""
    mask = 0xFFFFFFFF
    numbers = []
    for counter in range((count + 3) // 4):
        c, k = [counter & mask, counter >> 32, 0, 0], [seed & mask, seed >> 32]
        for _ in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
        for x, y in (c[:2], c[2:]):
            radius, angle = math.sqrt(-2 * math.log((x + 1) / 2**32)), 2 * math.pi * y / 2**32
            numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(numbers[:count], dtype=torch.float32)


def model_hash(folder):
    """The name a receipt gives this model, as documented in cuckoo-miner/src/diffusion/folder.rs."""
    # The tokenizer is read from its one new file, or else from its two classic ones.
    modern, classic = ["tokenizer/tokenizer.json"], ["tokenizer/merges.txt", "tokenizer/vocab.json"]
    names = [
        *(modern if (folder / modern[0]).exists() else classic),
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    digest = hashlib.sha256(b"cuckoo model 1\n")
    for name in sorted(names):
        content = (folder / name).read_bytes()
        digest.update(len(name).to_bytes(8, "little") + name.encode())
        digest.update(len(content).to_bytes(8, "little") + hashlib.sha256(content).digest())
    return digest.hexdigest()


@torch.no_grad()
def pipeline(folder, out):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    config = pipe.scheduler.config
    tensors = {}
    for i, request in enumerate(REQUESTS):
        pipe.scheduler = SAMPLERS[request["sampler"]].from_config(config)
        sample = pipe.unet.config.sample_size
        sample = sample if isinstance(sample, list | tuple) else [sample, sample]
        height = request.get("height", sample[0] * pipe.vae_scale_factor)
        width = request.get("width", sample[1] * pipe.vae_scale_factor)
        shape = (1, pipe.unet.config.in_channels, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
        noise = philox(request["seed"], math.prod(shape)).reshape(shape)
        prompt, negative = pipe.encode_prompt(
            request["prompt"], "cpu", 1, True, negative_prompt=request.get("negative_prompt", "")
        )
        latents = pipe(
            prompt=request["prompt"],
            negative_prompt=request.get("negative_prompt"),
            height=height,
            width=width,
            num_inference_steps=request["steps"],
            guidance_scale=request["guidance"],
            latents=noise.clone(),
            output_type="latent",
        ).images
        image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        image = pipe.image_processor.postprocess(image, output_type="pil")[0]
        stages = {
            "noise": noise,
            "prompt": prompt,
            "negative": negative,
            "unet": pipe.unet(noise, UNET_TIME, encoder_hidden_states=prompt).sample,
            "latents": latents,
            "image": torch.from_numpy(np.asarray(image).copy()),
        }
        tensors |= {f"{i}.{stage}": value.contiguous() for stage, value in stages.items()}
        spread = image.convert("L").getextrema()
        print(f"{folder.name} {i}: latents rms {latents.pow(2).mean().sqrt():.3f}, grey {spread[0]} to {spread[1]}")
    # One entry: the order of several would differ from run to run.
    golden = {"requests": REQUESTS, "unet_time": UNET_TIME, "model_hash": model_hash(folder)}
    save_file(tensors, out, metadata={"golden": json.dumps(golden)})


def schedules(out):
    """Each scheduler on made-up predictions: what its steps do to four numbers."""
    base = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1, "clip_sample": False}
    cases = []
    for name, prediction, spacing, shape, zero, steps in itertools.product(
        SAMPLERS,
        ["epsilon", "v_prediction", "sample"],
        ["leading", "trailing", "linspace", None],
        ["linear", "scaled_linear", "squaredcos_cap_v2"],
        [False, True],
        [1, 7],
    ):
        if zero and prediction == "epsilon":
            continue
        config = {"prediction_type": prediction, "beta_schedule": shape, "rescale_betas_zero_snr": zero}
        if spacing:
            config["timestep_spacing"] = spacing
        if name == "ddim":
            config["set_alpha_to_one"] = steps == 7
        else:
            config["final_sigmas_type"] = "sigma_min" if steps == 7 else "zero"
            config["interpolation_type"] = "linear" if spacing else "log_linear"
        scheduler = SAMPLERS[name].from_config(base | config)
        scheduler.set_timesteps(steps)
        x = torch.tensor([-1.5, -0.25, 0.5, 2.0]) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(0.4 * scheduler.scale_model_input(x, t) + 0.1, t, x).prev_sample
        if not torch.isfinite(x).all():
            continue
        times = [round(float(t), 4) for t in scheduler.timesteps]
        cases.append({"sampler": name, "config": config, "steps": steps, "times": times, "result": x.tolist()})
    text = ",\n".join(json.dumps(case) for case in cases)
    out.write_text(f'{{"base": {json.dumps(base)}, "cases": [\n{text}\n]}}\n')
    print(f"{len(cases)} schedules")


if __name__ == "__main__":
    torch.set_num_threads(1)
    disable_progress_bar()
    disable_transformers_progress_bar()
    match sys.argv[1:]:
        case ["pipeline", folder, out]:
            pipeline(Path(folder), Path(out))
        case ["schedules", out]:
            schedules(Path(out))
        case _:
            sys.exit(__doc__)
