"""Trains the shapes model from nothing and writes its diffusers folder.

    python train.py --out ../shapes --work ~/shapes-work

Four stages, each kept in the work folder, so that the same command resumes:
  vae      the autoencoder, on pictures
  latents  pictures encoded once
  decoder  the decoder alone, on latents with noise, to forgive the UNet's errors
  unet     UNet and text encoder together, v-prediction with zero terminal SNR
Runs on a CPU (bf16 where it is fast) or on a GPU. Every random number follows
from --seed; --unet-minutes ends the last stage by the clock instead of by steps.
With --processes, the UNet stage splits each batch among that many processes of
one thread each, which on a CPU wastes less than threads that wait on each other.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor

import score
from loop import Clock, add_options, follow, launch, save, set_rates, share
from muon import Muon
from pipeline import SCHEDULER, build_text_encoder, build_tokenizer, build_unet, build_vae, caption_ids, export
from shapes import GRID, PALETTE, random_coverage

SMALL_SHARE = 0.58
"""Share of small shapes among the pictures: they are the harder half."""
CAPTION_DROPOUT = 0.10
"""Share of pictures trained without their caption, for classifier-free guidance."""


@dataclass
class Pictures:
    """Training pictures as coverage masks and prompts; colours are mixed on demand."""

    prompts: torch.Tensor
    masks: torch.Tensor
    colours: torch.Tensor

    @staticmethod
    def generate(count: int, seed: int, device: torch.device) -> "Pictures":
        rng = np.random.default_rng(seed)
        weight = np.asarray([SMALL_SHARE if p.size == "small" else 1 - SMALL_SHARE for p in GRID])
        prompts = rng.choice(len(GRID), count, p=weight / weight.sum())
        masks = np.stack([np.rint(16 * random_coverage(GRID[i], rng)).astype(np.uint8) for i in prompts])
        pairs = np.asarray([(PALETTE[p.colour], PALETTE[p.background]) for p in GRID], np.float32)
        return Pictures(
            torch.from_numpy(prompts).to(device),
            torch.from_numpy(masks).to(device),
            torch.from_numpy(pairs / 127.5 - 1).to(device),
        )

    def batch(self, chosen: torch.Tensor) -> torch.Tensor:
        """Pictures in [-1, 1], N x 3 x 64 x 64."""
        cover = self.masks[chosen][:, None].float() / 16
        pair = self.colours[self.prompts[chosen]][..., None, None]
        return torch.lerp(pair[:, 1], pair[:, 0], cover)


class Trainer:
    def __init__(self, options: argparse.Namespace, rank: int = 0) -> None:
        self.options, self.rank = options, rank
        self.device = torch.device(options.device)
        self.work = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.rng = torch.Generator(self.device).manual_seed(options.seed)
        self.vae = build_vae().to(self.device)
        self.unet = build_unet().to(self.device)
        self.text = build_text_encoder().to(self.device)
        self.text.set_attn_implementation("eager")
        # The backward pass of fused bf16 attention is slow on CPUs.
        for module in (self.vae, self.unet):
            module.set_attn_processor(AttnProcessor())
        self.ids = caption_ids(build_tokenizer()).to(self.device)
        self.scheduler = DDIMScheduler.from_config(SCHEDULER)
        self.alphas = self.scheduler.alphas_cumprod.to(self.device)
        self.log(f"device {self.device.type}, torch {torch.__version__}, seed {options.seed}")
        parts = {"vae": self.vae, "unet": self.unet, "text encoder": self.text}
        self.log("parameters: " + ", ".join(f"{n} {sum(p.numel() for p in m.parameters()):,}" for n, m in parts.items()))
        self.pictures = Pictures.generate(options.pictures, options.seed, self.device)
        self.log(f"{options.pictures} pictures drawn")

    def log(self, line: str) -> None:
        if self.rank != 0:
            return
        text = time.strftime("%H:%M:%S ") + line
        print(text, flush=True)
        with open(self.work / "train.log", "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def choose(self, count: int) -> torch.Tensor:
        return torch.randint(len(self.pictures.prompts), (count,), generator=self.rng, device=self.device)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.rng, device=self.device)

    # Stage 1 and 3: the autoencoder.

    def train_autoencoder(self, stage: str, steps: int, rate: float) -> None:
        """Stage "vae" trains all of it; stage "decoder" the decoder, on noised latents."""
        path = self.work / f"{stage}.pt"
        whole = stage == "vae"
        modules = [self.vae] if whole else [self.vae.post_quant_conv, self.vae.decoder]
        weights = [p for module in modules for p in module.parameters()]
        optimiser = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
        clock = Clock(steps)
        if path.exists():
            kept = torch.load(path, map_location=self.device, weights_only=True)
            self.vae.load_state_dict(kept["vae"])
            optimiser.load_state_dict(kept["optimiser"])
            self.rng.set_state(kept["rng"].cpu())
            clock = Clock(steps, step=kept["step"], seconds=kept["seconds"])
        errors: list[float] = []
        while clock.step < steps:
            set_rates([optimiser], clock.factor())
            chosen = self.choose(16)
            picture = self.pictures.batch(chosen)
            with self.autocast():
                if whole:
                    posterior = self.vae.encode(picture).latent_dist
                    mean, logvar = posterior.mean.float(), posterior.logvar.float()
                    latent = mean + self.normal(mean) * torch.exp(0.5 * logvar)
                    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
                else:
                    clean = self.latents[chosen].float()
                    amount = 0.3 * torch.rand(len(chosen), 1, 1, 1, generator=self.rng, device=self.device)
                    latent = (clean + amount * self.normal(clean)) / self.vae.config.scaling_factor
                    divergence = torch.zeros(())
                seen = self.vae.decode(latent).sample.float()
            squares = F.mse_loss(seen, picture)
            loss = F.l1_loss(seen, picture) + 2 * squares + 3e-4 * divergence
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            errors.append(squares.item() / 4)
            clock.tick()
            if clock.step % 100 == 0 or clock.step == steps:
                psnr = -10 * math.log10(np.mean(errors))
                errors.clear()
                self.log(
                    f"{stage} step {clock.step}/{steps}  psnr {psnr:.2f} dB  divergence {divergence.item():.2f}  "
                    f"{clock.seconds / clock.step:.3f} s/step"
                )
            if clock.step % 500 == 0 or clock.step == steps:
                state = {"vae": self.vae.state_dict(), "optimiser": optimiser.state_dict(), "step": clock.step}
                save(path, {**state, "seconds": clock.seconds, "rng": self.rng.get_state()})

    # Stage 2: latents, scaled to unit deviation.

    @torch.no_grad()
    def encode_pictures(self) -> None:
        path = self.work / "latents.pt"
        if path.exists():
            kept = torch.load(path, map_location=self.device, weights_only=True)
            self.latents, scale = kept["latents"], kept["scale"]
        else:
            parts = []
            for chosen in torch.arange(len(self.pictures.prompts), device=self.device).split(256):
                with self.autocast():
                    parts.append(self.vae.encode(self.pictures.batch(chosen)).latent_dist.mean.float())
            raw = torch.cat(parts)
            scale = round(1 / raw.std().item(), 4)
            self.latents = (raw * scale).half()
            save(path, {"latents": self.latents, "scale": scale})
        self.vae.register_to_config(scaling_factor=scale)
        self.log(f"{len(self.latents)} latents, scaling factor {scale}")

    # Stage 4: UNet and text encoder.

    def optimisers(self) -> list[torch.optim.Optimizer]:
        blocks = ("down_blocks.", "mid_block.", "up_blocks.")
        matrices, others = [], []
        for name, weight in self.unet.named_parameters():
            inner = name.startswith(blocks) and weight.ndim >= 2
            (matrices if inner and self.options.optimiser == "muon" else others).append(weight)
        others += list(self.text.parameters())
        adam = torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
        return [adam] + ([Muon(matrices, lr=self.options.muon_rate)] if matrices else [])

    def velocity(self, latent: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> tuple:
        """The UNet's prediction and its target."""
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        with self.autocast():
            states = self.text(ids).last_hidden_state
            seen = self.unet(signal * latent + sigma * noise, t, states).sample
        return seen.float(), signal * noise - sigma * latent

    def train_unet(self) -> None:
        options = self.options
        path = self.work / "unet.pt"
        optimisers = self.optimisers()
        clock = Clock(options.unet_steps, options.unet_minutes)
        models = {"unet": self.unet, "text": self.text}
        average = {k: {n: v.detach().clone() for n, v in m.state_dict().items()} for k, m in models.items()}
        if path.exists():
            kept = torch.load(path, map_location=self.device, weights_only=True)
            for name, model in models.items():
                model.load_state_dict(kept[name])
            average = kept["average"]
            for optimiser, state in zip(optimisers, kept["optimisers"]):
                optimiser.load_state_dict(state)
            self.rng.set_state(kept["rng"].cpu())
            clock = Clock(options.unet_steps, options.unet_minutes, kept["step"], kept["seconds"])
            self.log(f"unet resumed at step {clock.step}")
        weights = [p for model in models.values() for p in model.parameters()]
        empty, losses = len(GRID), []
        while clock.progress < 1:
            set_rates(optimisers, clock.factor())
            chosen = self.choose(options.batch)
            latent = self.latents[chosen].float()
            dropped = torch.rand(len(chosen), generator=self.rng, device=self.device) < CAPTION_DROPOUT
            ids = self.ids[torch.where(dropped, empty, self.pictures.prompts[chosen])]
            # One time step from each of as many equal strata as there are pictures.
            strata = torch.arange(len(chosen), device=self.device)
            offset = torch.rand(len(chosen), generator=self.rng, device=self.device)
            t = ((strata + offset) * (len(self.alphas) / len(chosen))).long().clamp(max=len(self.alphas) - 1)
            # Every process draws the whole batch and works on its part.
            part = slice(self.rank, None, options.processes)
            seen, target = self.velocity(latent[part], self.normal(latent)[part], t[part], ids[part])
            loss = F.mse_loss(seen, target)
            loss.backward()
            average_loss, seconds = share(weights, loss.item(), clock.seconds, self.rank, options.processes)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            clock.tick(seconds)
            for name, model in models.items():
                follow(average[name], model, clock.step)
            losses.append(average_loss)
            if clock.step % 100 == 0:
                self.log(
                    f"unet step {clock.step} ({clock.progress:.1%})  loss {np.mean(losses):.4f}  "
                    f"{clock.seconds / clock.step:.3f} s/step"
                )
                losses.clear()
            due = clock.step % options.export_every == 0 or clock.progress >= 1
            if due and self.rank == 0:
                state = {name: model.state_dict() for name, model in models.items()}
                state |= {"average": average, "optimisers": [o.state_dict() for o in optimisers], "step": clock.step}
                save(path, {**state, "seconds": clock.seconds, "rng": self.rng.get_state()})
                self.check(average, clock.step)

    def check(self, average: dict[str, dict[str, torch.Tensor]], step: int) -> None:
        """Exports the averaged weights and scores a few pictures made with them."""
        size = export(self.options.out, self.vae, self.text, self.unet, average["text"], average["unet"])
        models = {"unet": self.unet, "text": self.text}
        held = {name: {n: v.clone() for n, v in model.state_dict().items()} for name, model in models.items()}
        for name, model in models.items():
            model.load_state_dict(average[name])
        rng = np.random.default_rng(step)
        chosen = torch.from_numpy(rng.permutation(len(GRID))[:168]).to(self.device)
        pictures = self.sample(chosen, step)
        prompts = [GRID[i] for i in chosen.tolist()]
        templates = score.Templates()
        readings = [score.read(picture, templates) for picture in pictures]

        def right(*names: str) -> float:
            hits = [all(getattr(r, a) == getattr(p, a) for a in names) for p, r in zip(prompts, readings)]
            return float(np.mean(hits))

        self.log(
            f"unet step {step} exported, {size:,} bytes; of {len(prompts)} pictures: background "
            f"{right('background'):.1%}, colour {right('colour'):.1%}, shape {right('shape'):.1%}, "
            f"size {right('size'):.1%}, colour and shape {right('colour', 'shape'):.1%}, "
            f"mean IoU {np.mean([r.iou for r in readings]):.3f}"
        )
        for name, model in models.items():
            model.load_state_dict(held[name])

    @torch.no_grad()
    def sample(self, prompts: torch.Tensor, seed: int, steps: int = 10, guidance: float = 2.0) -> np.ndarray:
        """Pictures of prompts (indices into the grid), uint8."""
        rng = torch.Generator(self.device).manual_seed(seed)
        scheduler = DDIMScheduler.from_config(SCHEDULER)
        scheduler.set_timesteps(steps)
        pictures = []
        for part in prompts.split(84):
            latent = torch.randn(len(part), 4, 16, 16, generator=rng, device=self.device)
            ids = self.ids[torch.cat([torch.full_like(part, len(GRID)), part])]
            with self.autocast():
                states = self.text(ids).last_hidden_state
                for t in scheduler.timesteps:
                    without, with_caption = self.unet(torch.cat([latent, latent]), t, states).sample.float().chunk(2)
                    guided = without + guidance * (with_caption - without)
                    latent = scheduler.step(guided, t, latent).prev_sample
                pictures.append(self.vae.decode(latent / self.vae.config.scaling_factor).sample.float())
        colours = (torch.cat(pictures).clamp(-1, 1) + 1) * 127.5
        return colours.round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def run(self) -> None:
        # The first process makes what the others then find on disk.
        if self.rank != 0:
            dist.barrier()
        self.prepare()
        if self.rank == 0 and self.options.processes > 1:
            dist.barrier()
        if not self.options.autoencoder_only:
            self.train_unet()

    def prepare(self) -> None:
        """Everything before the UNet."""
        options = self.options
        if not (self.work / "decoder.pt").exists():
            self.train_autoencoder("vae", options.vae_steps, 2e-3)
        else:
            self.vae.load_state_dict(torch.load(self.work / "vae.pt", map_location=self.device, weights_only=True)["vae"])
        self.encode_pictures()
        self.train_autoencoder("decoder", options.decoder_steps, 1.2e-3)
        self.vae.requires_grad_(False)


def work(rank: int, options: argparse.Namespace) -> None:
    Trainer(options, rank).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pictures", type=int, default=49_152)
    parser.add_argument("--batch", type=int, default=64, help="pictures a UNet step")
    parser.add_argument("--vae-steps", type=int, default=3000)
    parser.add_argument("--decoder-steps", type=int, default=800)
    parser.add_argument("--autoencoder-only", action="store_true", help="stop before the UNet")
    parser.add_argument("--unet-steps", type=int, default=2500)
    parser.add_argument("--unet-minutes", type=float, help="end the UNet stage by the clock")
    parser.add_argument("--export-every", type=int, default=500)
    parser.add_argument("--optimiser", choices=("muon", "adamw"), default="muon", help="for the UNet's matrices")
    parser.add_argument("--muon-rate", type=float, default=0.01)
    options = parser.parse_args()
    if options.processes > 1 and options.device != "cpu":
        parser.error("--processes is for CPUs; a GPU takes the whole batch in one")
    launch(work, options)


if __name__ == "__main__":
    main()
