"""PyTorch's side of the benchmark: a request on each line of standard input, an answer on each line of standard output.

    {"load": {...}}    loads one case, lets go of the one before
    {"run": "eager"}   runs it once, or as torch.compile has compiled it ("compiled"), either with the model in
                       bfloat16 ("eager-bf16") where the case has "bf16": {"seconds": 1.5}
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
        self.call = styles(self.unet)

    def run(self, style):
        [step] = self.scheduler.timesteps
        both = torch.cat([self.latents, self.latents])
        without, guided = self.call[style](both, step, encoder_hidden_states=self.prompts).sample.chunk(2)
        prediction = without + self.guidance * (guided - without)
        return self.scheduler.step(prediction, step, self.latents).prev_sample


class FlowStep:
    """A step of FLUX.1: the direction that its transformer predicts, and the scheduler's move along it."""

    def __init__(self, case):
        from diffusers import FluxPipeline

        side = case["side"]
        pipeline = FluxPipeline.from_pretrained(case["folder"], dtype=torch.float32)
        tokens = pipeline.tokenizer_2.model_max_length
        prompt, pooled, text_ids = pipeline.encode_prompt(case["prompt"], max_sequence_length=tokens, device="cpu")
        self.scheduler, self.transformer = pipeline.scheduler, pipeline.transformer.eval()
        self.scale = pipeline.vae_scale_factor
        self.size = side * self.scale
        shape = (1, pipeline.vae.config.latent_channels, side, side)
        self.patches = pipeline._pack_latents(numbers(case["noise"]).reshape(shape), *shape)
        self.given = {
            "encoder_hidden_states": prompt,
            "pooled_projections": pooled,
            "txt_ids": text_ids,
            "img_ids": pipeline._prepare_latent_image_ids(1, side // 2, side // 2, "cpu", torch.float32),
        }
        self.unpack = pipeline._unpack_latents
        self.call = styles(self.transformer)

    def run(self, style):
        # The scheduler counts its steps, and begins anew here.
        self.scheduler.set_timesteps(sigmas=[1.0])
        [step] = self.scheduler.timesteps
        direction = self.call[style](hidden_states=self.patches, timestep=step.expand(1) / 1000, **self.given).sample
        patches = self.scheduler.step(direction, step, self.patches).prev_sample
        return self.unpack(patches, self.size, self.size, self.scale)


class Decode:
    """Latents to a picture's bytes."""

    def __init__(self, case):
        from diffusers import AutoencoderKL

        side = case["side"]
        vae = AutoencoderKL.from_pretrained(Path(case["folder"]) / "vae").eval()
        self.scale = vae.config.scaling_factor
        self.latents = numbers(case["noise"]).reshape(1, 4, side, side)
        self.call = styles(vae.decode)

    def run(self, style):
        planes = self.call[style](self.latents / self.scale).sample
        return ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class Prompt:
    """A prompt through the text encoder."""

    def __init__(self, case):
        self.tokenizer, encoder = text_encoder(Path(case["folder"]))
        self.prompt = case["prompt"]
        self.call = styles(encoder)

    def run(self, style):
        return embed(self.tokenizer, self.call[style], [self.prompt])


class Read:
    """A prompt's tokens to the scores of the next one."""

    def __init__(self, case):
        self.tokens = torch.tensor([case["tokens"]])
        self.call = {}
        for end, model in language_models(case).items():
            self.call |= styles(model, end)

    def run(self, style):
        return self.call[style](self.tokens, use_cache=True, logits_to_keep=1).logits


class Write:
    """So many likeliest tokens after each of some prompts, one step at a time; only these steps are measured."""

    def __init__(self, case):
        from transformers import DynamicCache, StaticCache

        prompts = torch.tensor(case["prompts"])
        self.count = case["count"]
        length = prompts.shape[1] + self.count
        self.call, self.caches, first = {}, {}, {}
        for end, model in language_models(case).items():
            self.call |= styles(model, end)
            caches = {
                f"eager{end}": DynamicCache(config=model.config),
                f"compiled{end}": StaticCache(config=model.config, max_cache_len=length),
            }
            for style, cache in caches.items():
                scores = model(prompts, past_key_values=cache, logits_to_keep=1).logits
                first[style] = scores.argmax(-1)
            self.caches |= caches
        # Every style writes after the same tokens, so that none has other work.
        self.first = first["eager"]

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
        self.call = styles(encoder)

    def run(self, style):
        return self.call[style](self.tokens).last_hidden_state.mean(1)


def text_encoder(folder):
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), encoder


def embed(tokenizer, encoder, prompts):
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return encoder(tokens).last_hidden_state


def language_models(case):
    """The model with its weights in 32 bits, and the same in bfloat16 where the case has it, by what ends their styles' names."""
    from transformers import AutoModelForCausalLM

    types = {"": torch.float32} | ({"-bf16": torch.bfloat16} if case["bf16"] else {})
    load = AutoModelForCausalLM.from_pretrained
    return {end: load(case["folder"], dtype=dtype).eval() for end, dtype in types.items()}


def styles(model, end=""):
    """A model as it is and as torch.compile makes it when it first runs."""
    return {f"eager{end}": model, f"compiled{end}": torch.compile(model, dynamic=False)}


def numbers(path):
    return torch.from_numpy(numpy.fromfile(path, dtype=numpy.float32))


def main(threads):
    torch.set_num_threads(threads)
    # Answers have standard output for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kinds = {
        "step": Step,
        "flow step": FlowStep,
        "decode": Decode,
        "prompt": Prompt,
        "read": Read,
        "write": Write,
        "embed": Embed,
    }
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
