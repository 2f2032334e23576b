"""Makes the pictures that score.py scores, with diffusers from the exported folder.

    python generate.py ../shapes OUT                 every prompt, 4 seeds each
    python generate.py ../shapes OUT --every 8 --seeds 1 --steps 10 --guidance 2

Writes PNG files and manifest.json, a list of {"file", "prompt", "seed"}. Any
other program that writes the same, the Rust executor for one, can be scored
alike.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor

from shapes import GRID


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=4, help="pictures a prompt")
    parser.add_argument("--every", type=int, default=1, help="take one prompt in so many, at random")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    pipeline = StableDiffusionPipeline.from_pretrained(options.model, safety_checker=None, local_files_only=True)
    for module in (pipeline.unet, pipeline.vae):
        module.set_attn_processor(AttnProcessor())
    pipeline.set_progress_bar_config(disable=True)
    order = np.random.default_rng(0).permutation(len(GRID))[: len(GRID) // options.every]
    jobs = [(GRID[index], seed) for index in sorted(order) for seed in range(options.seeds)]
    options.out.mkdir(parents=True, exist_ok=True)
    manifest, began = [], time.monotonic()
    for first in range(0, len(jobs), options.batch):
        part = jobs[first : first + options.batch]
        pictures = pipeline(
            [prompt.caption for prompt, _ in part],
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            generator=[torch.Generator().manual_seed(seed) for _, seed in part],
        ).images
        for (prompt, seed), picture in zip(part, pictures):
            file = f"{prompt.size}-{prompt.colour}-{prompt.shape}-{prompt.background}-{seed}.png"
            picture.save(options.out / file)
            manifest.append({"file": file, "prompt": prompt.caption, "seed": seed})
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    seconds = time.monotonic() - began
    print(f"{len(jobs)} pictures, {options.steps} steps, guidance {options.guidance:g}: {seconds / len(jobs):.3f} s each")


if __name__ == "__main__":
    main()
