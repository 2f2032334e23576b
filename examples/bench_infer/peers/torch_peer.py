"""PyTorch's side of the benchmark: a request on each line of standard input, an answer on each line of standard output.

    {"load": {...}}    loads one case, lets go of the one before
    {"run": "eager"}   runs it once, or as torch.compile has compiled it ("compiled"): {"seconds": 1.5}
    {"output": "FILE"} writes what it computes there, as 32-bit floating point numbers

    python torch_peer.py THREADS
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

import numpy
import torch

STYLES = ("eager", "compiled")


class Step:
    """A step of denoising with guidance: two predictions, joined, and the scheduler's move."""

    def __init__(self, case):
        from diffusers import DDIMScheduler, UNet2DConditionModel

        folder, side = Path(case["folder"]), case["side"]
        prompts = embed(*text_encoder(folder), ["", case["prompt"]])
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self.scheduler.set_timesteps(1)
        self.latents = numbers(case["noise"]).reshape(1, 4, side, side)
        self.prompts, self.guidance = prompts, case["guidance"]
        self.call = {"eager": self.unet, "compiled": torch.compile(self.unet, dynamic=False)}

    def run(self, style):
        [step] = self.scheduler.timesteps
        both = torch.cat([self.latents, self.latents])
        without, guided = self.call[style](both, step, encoder_hidden_states=self.prompts).sample.chunk(2)
        prediction = without + self.guidance * (guided - without)
        return self.scheduler.step(prediction, step, self.latents).prev_sample


class Decode:
    """Latents to a picture's bytes."""

    def __init__(self, case):
        from diffusers import AutoencoderKL

        side = case["side"]
        vae = AutoencoderKL.from_pretrained(Path(case["folder"]) / "vae").eval()
        self.scale = vae.config.scaling_factor
        self.latents = numbers(case["noise"]).reshape(1, 4, side, side)
        self.call = {"eager": vae.decode, "compiled": torch.compile(vae.decode, dynamic=False)}

    def run(self, style):
        planes = self.call[style](self.latents / self.scale).sample
        return ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class Prompt:
    """A prompt through the text encoder."""

    def __init__(self, case):
        self.tokenizer, encoder = text_encoder(Path(case["folder"]))
        self.prompt = case["prompt"]
        self.call = {"eager": encoder, "compiled": torch.compile(encoder, dynamic=False)}

    def run(self, style):
        return embed(self.tokenizer, self.call[style], [self.prompt])


class Read:
    """A prompt's tokens to the scores of the next one."""

    def __init__(self, case):
        model = language_model(case)
        self.tokens = torch.tensor([case["tokens"]])
        self.call = {"eager": model, "compiled": torch.compile(model, dynamic=False)}

    def run(self, style):
        return self.call[style](self.tokens, use_cache=True, logits_to_keep=1).logits


class Write:
    """So many likeliest tokens after each of some prompts, one step at a time; only these steps are measured."""

    def __init__(self, case):
        from transformers import DynamicCache, StaticCache

        model = language_model(case)
        self.prompts = torch.tensor(case["prompts"])
        self.count = case["count"]
        length = self.prompts.shape[1]
        self.call = {"eager": model, "compiled": torch.compile(model, dynamic=False)}
        self.caches = {
            "eager": DynamicCache(config=model.config),
            "compiled": StaticCache(config=model.config, max_cache_len=length + self.count),
        }
        for cache in self.caches.values():
            scores = model(self.prompts, past_key_values=cache, logits_to_keep=1).logits
        self.first = scores.argmax(-1)

    def run(self, style):
        cache, token = self.caches[style], self.first
        made = [token]
        for _ in range(self.count - 1):
            scores = self.call[style](token, past_key_values=cache).logits
            token = scores.argmax(-1)
            made.append(token)
        cache.crop(1 - self.count)
        return torch.cat(made, 1)


class Embed:
    """Texts' tokens to the means of what the encoder makes of them."""

    def __init__(self, case):
        from transformers import BertModel

        encoder = BertModel.from_pretrained(case["folder"]).eval()
        self.tokens = torch.tensor(case["texts"])
        self.call = {"eager": encoder, "compiled": torch.compile(encoder, dynamic=False)}

    def run(self, style):
        return self.call[style](self.tokens).last_hidden_state.mean(1)


def text_encoder(folder):
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), encoder


def embed(tokenizer, encoder, prompts):
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return encoder(tokens).last_hidden_state


def language_model(case):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32).eval()


def numbers(path):
    return torch.from_numpy(numpy.fromfile(path, dtype=numpy.float32))


def main(threads):
    torch.set_num_threads(threads)
    # Answers have standard output for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kinds = {"step": Step, "decode": Decode, "prompt": Prompt, "read": Read, "write": Write, "embed": Embed}
    case = None
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if "load" in request:
            case = None
            torch.compiler.reset()
            gc.collect()
            case = kinds[request["load"]["kind"]](request["load"])
        elif "run" in request:
            start = time.perf_counter()
            case.run(request["run"])
            answer["seconds"] = time.perf_counter() - start
        else:
            output = case.run("eager").to(torch.float32).flatten()
            output.numpy().tofile(request["output"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    with torch.inference_mode():
        main(int(sys.argv[1]))
