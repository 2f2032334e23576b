"""Runs diffusers over a pipeline's folder and stores what it computed at each stage.

    python reference.py pipeline FOLDER OUT.safetensors   # pictures, from our noise, as OUT says
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
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.models.autoencoders import vae as autoencoder
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as image_pipeline
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img as xl_image_pipeline
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from safetensors.torch import save_file
from transformers.utils.logging import disable_progress_bar as disable_transformers_progress_bar

SAMPLERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}
UNET_TIME = 321
# The stream that draws latents of a picture from what its encoder says.
ENCODER_STREAM = 2**64 - 1

PLAIN = [
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

# In the manner of DPM++ 2M on Stable Diffusion 1.5, and of the folders of Turbo models.
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
SOLVER = BETAS | {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "v_prediction"}
TURBO = BETAS | {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "prediction_type": "epsilon",
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
SMALL = {"prompt": "a large red circle", "width": 32, "height": 24, "guidance": 3.0}

# Requests by golden file; what is not of the request itself comes second.
REQUESTS = {
    "random": [(request, {}) for request in PLAIN],
    "shapes": [(request, {}) for request in PLAIN],
    "samplers": [
        (SMALL | {"steps": 6, "seed": 1, "sampler": "euler_ancestral"}, {}),
        (SMALL | {"steps": 7, "seed": 2, "sampler": "dpmpp_2m"}, {}),
        (SMALL | {"steps": 8, "seed": 3, "sampler": "dpmpp_2m_karras"}, {"scheduler": SOLVER}),
        (SMALL | {"steps": 6, "seed": 4}, {"scheduler": SOLVER | {"solver_type": "heun"}}),
        (SMALL | {"steps": 4, "seed": 5}, {"scheduler": TURBO}),
        (
            SMALL | {"steps": 5, "seed": 6},
            {"scheduler": BETAS | {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}},
        ),
        (SMALL | {"steps": 5, "seed": 7, "strength": 0.6, "sampler": "ddim"}, {"image": (32, 24)}),
        (SMALL | {"steps": 8, "seed": 8, "strength": 0.5, "sampler": "euler"}, {"image": (41, 19)}),
        (SMALL | {"steps": 5, "seed": 9, "strength": 1.0, "sampler": "euler_ancestral"}, {"image": (32, 24)}),
        (SMALL | {"steps": 9, "seed": 10, "strength": 0.7, "sampler": "dpmpp_2m"}, {"image": (50, 20)}),
    ],
    "xl": [
        ({"prompt": "a large red circle", "steps": 5, "guidance": 5.0, "seed": 1}, {}),
        (
            SMALL | {"prompt": "naïve, " * 9, "negative_prompt": "blue", "steps": 6, "seed": 2, "sampler": "dpmpp_2m_karras"},
            {},
        ),
        (SMALL | {"negative_prompt": "", "steps": 4, "seed": 3, "sampler": "ddim"}, {}),
        (SMALL | {"prompt": "", "steps": 2, "guidance": 0.0, "seed": 4}, {"scheduler": TURBO}),
        (SMALL | {"steps": 1, "guidance": 0.0, "seed": 5}, {"scheduler": TURBO}),
        (SMALL | {"steps": 6, "seed": 6, "strength": 0.5}, {"image": (32, 24)}),
        (SMALL | {"steps": 4, "guidance": 0.0, "seed": 7, "strength": 0.5}, {"scheduler": TURBO, "image": (45, 45)}),
    ],
    "loras": [
        (SMALL | {"steps": 3, "seed": 1}, {"loras": [["diffusers", 0.75]]}),
        (SMALL | {"steps": 3, "seed": 2}, {"loras": [["kohya", 1.5]]}),
    ],
    "loras_xl": [(SMALL | {"steps": 3, "seed": 3}, {"loras": [["kohya_xl", 0.5]]})],
}


def philox(seed, count, stream=0):
    """Our noise: Philox4x32-10 and Box-Muller, as documented in cuckoo-miner/src/noise.rs."""
    mask = 0xFFFFFFFF
    numbers = []
    for counter in range((count + 3) // 4):
        c, k = [counter & mask, counter >> 32, stream & mask, stream >> 32], [seed & mask, seed >> 32]
        for _ in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
        for x, y in (c[:2], c[2:]):
            radius, angle = math.sqrt(-2 * math.log((x + 1) / 2**32)), 2 * math.pi * y / 2**32
            numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(numbers[:count], dtype=torch.float32)


def model_hash(folder, changed):
    """The name a receipt gives this model, as documented in cuckoo-miner/src/model/folder.rs."""
    names = ["model_index.json", "scheduler/scheduler_config.json"]
    for suffix in ["", "_2"]:
        if (folder / f"tokenizer{suffix}").exists():
            # The tokenizer is read from its one new file, or else from its two classic ones.
            modern, classic = ["tokenizer.json"], ["merges.txt", "vocab.json"]
            tables = modern if (folder / f"tokenizer{suffix}/{modern[0]}").exists() else classic
            for name in [*tables, "special_tokens_map.json", "tokenizer_config.json"]:
                names.append(f"tokenizer{suffix}/{name}")
            names += [f"text_encoder{suffix}/{name}" for name in ["config.json", "model.safetensors"]]
    names += [f"{part}/{name}" for part in ["unet", "vae"] for name in ["config.json", "diffusion_pytorch_model.safetensors"]]
    contents = {name: (folder / name).read_bytes() for name in names} | changed
    digest = hashlib.sha256(b"cuckoo model 1\n")
    for name in sorted(contents):
        content = contents[name]
        digest.update(len(name).to_bytes(8, "little") + name.encode())
        digest.update(len(content).to_bytes(8, "little") + hashlib.sha256(content).digest())
    return digest.hexdigest()


def use_noise(pipe, seed):
    """Has every draw of diffusers come from our streams."""
    for module, stream in [
        (autoencoder, lambda: ENCODER_STREAM),
        (image_pipeline, lambda: 0),
        (xl_image_pipeline, lambda: 0),
        (ancestral, lambda: 1 + pipe.scheduler.step_index),
    ]:
        module.randn_tensor = lambda shape, stream=stream, **_: philox(seed, math.prod(shape), stream()).reshape(shape)


def scheduler_for(request, config):
    config = dict(config)
    sampler = request.get("sampler")
    if sampler == "dpmpp_2m_karras":
        return DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True)
    if sampler:
        return SAMPLERS[sampler].from_config(config)
    classes = {c.__name__: c for c in SAMPLERS.values()} | {"PNDMScheduler": DDIMScheduler}
    return classes[config["_class_name"]].from_config(config)


def picture(width, height):
    """Waves in three colours, so that no two corners are alike."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 4), np.sin((x * y) / 60)]
    return Image.fromarray(np.uint8(np.stack(planes, 2) * 110 + 128))


@torch.no_grad()
def pipeline(folder, out):
    is_xl = (folder / "text_encoder_2").exists()
    text, image = (
        (StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline)
        if is_xl
        else (StableDiffusionPipeline, StableDiffusionImg2ImgPipeline)
    )
    load = lambda: text.from_pretrained(
        folder, dtype=torch.float32, **({"add_watermarker": False} if is_xl else {"safety_checker": None})
    )
    pipe = load()
    config = pipe.scheduler.config
    sample = pipe.unet.config.sample_size
    sample = sample if isinstance(sample, list | tuple) else [sample, sample]
    # Image to image cannot take the list.
    pipe.unet.register_to_config(sample_size=max(sample))
    tensors, cases = {}, []
    for i, (request, case) in enumerate(REQUESTS[out.stem]):
        changed = {}
        for j, (name, scale) in enumerate(case.get("loras", [])):
            pipe = load()
            pipe.load_lora_weights(out.parent / "loras", weight_name=f"{name}.safetensors")
            pipe.fuse_lora(lora_scale=scale)
            pipe.unload_lora_weights()
            changed[f"lora/{j}@{scale}"] = (out.parent / f"loras/{name}.safetensors").read_bytes()
        # Its constructor is what forces settings, so each scheduler goes through it.
        components = pipe.components | {"scheduler": scheduler_for(request, case.get("scheduler", config))}
        extra = {} if is_xl else {"requires_safety_checker": False}
        pipe = text(**components, **extra)
        if "scheduler" in case:
            changed["scheduler/scheduler_config.json"] = json.dumps(case["scheduler"]).encode()
        scale = pipe.vae_scale_factor
        height, width = request.get("height", sample[0] * scale), request.get("width", sample[1] * scale)
        shape = (1, pipe.unet.config.in_channels, height // scale, width // scale)
        noise = philox(request["seed"], math.prod(shape)).reshape(shape)
        encoded = pipe.encode_prompt(
            request["prompt"],
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=request.get("negative_prompt", ""),
        )
        stages = {"noise": noise, "prompt": encoded[0], "negative": encoded[1]}
        added = None
        if is_xl:
            stages["pooled"] = encoded[2]
            added = {"text_embeds": encoded[2], "time_ids": torch.tensor([[height, width, 0, 0, height, width]]).float()}
        arguments = {
            "prompt": request["prompt"],
            "negative_prompt": request.get("negative_prompt"),
            "num_inference_steps": request["steps"],
            "guidance_scale": request["guidance"],
            "output_type": "latent",
        }
        if "image" in case:
            pipe = image(**components, **extra)
            start = picture(*case["image"])
            stages["input"] = torch.from_numpy(np.asarray(start).copy())
            arguments |= {"image": start.resize((width, height), Image.LANCZOS), "strength": request["strength"]}
        else:
            arguments |= {"height": height, "width": width, "latents": noise.clone()}
        pipe.set_progress_bar_config(disable=True)
        use_noise(pipe, request["seed"])
        latents = pipe(**arguments).images
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        decoded = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
        stages["unet"] = pipe.unet(noise, UNET_TIME, encoder_hidden_states=encoded[0], added_cond_kwargs=added).sample
        stages |= {"latents": latents, "image": torch.from_numpy(np.asarray(decoded).copy())}
        tensors |= {f"{i}.{stage}": value.contiguous() for stage, value in stages.items()}
        cases.append(
            {
                "scheduler": json.dumps(case["scheduler"]) if "scheduler" in case else None,
                "loras": case.get("loras", []),
                "hash": model_hash(folder, changed),
            }
        )
        spread = decoded.convert("L").getextrema()
        print(f"{out.stem} {i}: latents rms {latents.pow(2).mean().sqrt():.3f}, grey {spread[0]} to {spread[1]}")
    # One entry: the order of several would differ from run to run.
    golden = {"requests": [request for request, _ in REQUESTS[out.stem]], "cases": cases, "unet_time": UNET_TIME}
    save_file(tensors, out, metadata={"golden": json.dumps(golden)})


def schedule_cases():
    """Settings of each scheduler: all combinations of what two have, and a part of those of the others."""
    for name, prediction, spacing, shape, zero, steps in itertools.product(
        ["ddim", "euler"],
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
        yield name, config, steps
    for i, (prediction, spacing, shape, zero, steps) in enumerate(
        itertools.product(
            ["epsilon", "v_prediction"],
            ["leading", "trailing", "linspace", None],
            ["scaled_linear", "squaredcos_cap_v2"],
            [False, True],
            [1, 3, 20],
        )
    ):
        if zero and prediction == "epsilon":
            continue
        config = {"prediction_type": prediction, "beta_schedule": shape, "rescale_betas_zero_snr": zero}
        config["steps_offset"] = i % 2
        if spacing:
            config["timestep_spacing"] = spacing
        yield "euler_ancestral", config, steps
        karras = {"use_karras_sigmas": True, "final_sigmas_type": ["zero", "sigma_min"][i % 3 % 2]}
        # Levels that are the square of next to nothing have no digits to compare.
        levels = i % 2 and not (zero and shape == "squaredcos_cap_v2")
        if levels:
            yield "euler", config | karras, steps
        solver = {
            "solver_type": ["midpoint", "heun"][i // 3 % 2],
            "final_sigmas_type": ["zero", "sigma_min"][i // 4 % 2],
            "lower_order_final": i % 4 > 0,
            "euler_at_final": i % 5 == 0,
        }
        yield "dpmpp_2m", config | solver, steps
        if levels:
            yield "dpmpp_2m", config | karras, steps
    for sampler, spacing, begin in itertools.product(SAMPLERS, ["leading", "trailing", "linspace"], [0, 3, 5]):
        yield sampler, {"beta_schedule": "scaled_linear", "timestep_spacing": spacing, "begin": begin}, 6
    for change in [
        {"solver_order": 1},
        {"prediction_type": "sample"},
        {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"},
        {"lambda_min_clipped": -2.0, "timestep_spacing": "leading"},
        {"trained_betas": [0.1, 0.15, 0.2, 0.25, 0.3, 0.35], "num_train_timesteps": 6},
    ]:
        yield "dpmpp_2m", change, 4


def schedules(out):
    """Each scheduler on made-up predictions: what its steps do to four numbers."""
    base = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1, "clip_sample": False}
    cases = []
    for name, config, steps in schedule_cases():
        begin = config.pop("begin", None)
        scheduler = SAMPLERS[name].from_config(base | config)
        scheduler.set_timesteps(steps)
        times = [round(float(t), 4) for t in scheduler.timesteps]
        if name == "dpmpp_2m" and not config.get("use_karras_sigmas") and len(set(times)) < steps:
            continue
        x = torch.tensor([-1.5, -0.25, 0.5, 2.0])
        if name != "ddim":
            scheduler.set_begin_index(begin or 0)
        if begin is None:
            x = x * scheduler.init_noise_sigma
        else:
            # From a picture instead of noise.
            x = scheduler.add_noise(x, torch.tensor([0.3, -1.0, 0.8, 0.1]), scheduler.timesteps[begin : begin + 1])
        for i, t in list(enumerate(scheduler.timesteps))[begin or 0 :]:
            ancestral.randn_tensor = lambda *_, **__: philox(5, 4, 1 + i)
            x = scheduler.step(0.4 * scheduler.scale_model_input(x, t) + 0.1, t, x).prev_sample
        if not torch.isfinite(x).all():
            continue
        case = {"sampler": name, "config": config, "steps": steps, "times": times, "result": x.tolist()}
        cases.append(case if begin is None else case | {"begin": begin})
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
