"""Writes small Whisper models with random weights, recordings, and what transformers makes of them.

    python random_speech.py FOLDER   # a folder and a NAME.safetensors of golden values for each model, recordings/*.wav

Windows are two seconds long in the place of thirty, so that a recording of five has several. Sizes are odd on purpose.
"""

import json
import math
import shutil
import sys
import wave
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from naming import model_hash

RATE = 16_000
CORPUS = [
    " the cuckoo sings at noon and twelve small birds answer from the hedge",
    " the bird and the egg and the nest, once there was a small bird that could not sing",
    " Two and two are four; 12 and 13 are 25. Who sang there? I'm here, you're there!",
]
PROMPT = "Cuckoo, hedge: 12 birds"
LANGUAGES = ["en", "zh", "de", "haw", "yue"]
STEPS = 64
WINDOW = 200


def vocabulary(timestamps):
    """Byte-level pairs, then Whisper's marks in their order; openai's first vocabularies lack the timestamps, later ones do not."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 40, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    languages = [f"<|{language}|>" for language in LANGUAGES]
    others = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    marks = ["<|endoftext|>", "<|startoftranscript|>", *languages, *(f"<|{other}|>" for other in others)]
    tokenizer.add_special_tokens(marks)
    if timestamps:
        tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(WINDOW // 2 + 1)])
    around = [("<|startoftranscript|>", 0), ("<|notimestamps|>", 0), ("$A", 0), ("<|endoftext|>", 0)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(piece for piece, _ in around),
        special_tokens=[(piece, tokenizer.token_to_id(piece)) for piece, _ in around if piece != "$A"],
    )
    return tokenizer


def randomise(model, generator, gain, end, ending):
    """Weights that keep activations alive and attention far from even; the end is the likelier, the longer its row."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if "embed_tokens" in name:
            values *= gain / parameter.shape[1] ** 0.5
            values[end] *= ending
        elif "embed_positions" in name:
            values *= 0.5
        elif parameter.dim() > 1:
            sharp = 2.5 if any(part in name for part in ("q_proj", "k_proj")) else 1.0
            values *= sharp / math.prod(parameter.shape[1:]) ** 0.5
        else:
            values = values * 0.2 + (1.0 if "norm.weight" in name else 0.0)
        parameter.data = values


def whisper(folder, seed, sizes, multilingual, timestamps, ending):
    tokenizer = vocabulary(timestamps)
    token = tokenizer.token_to_id
    special = {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>", "decoder_start": "<|startoftranscript|>"}
    special = {f"{name}_token_id": token(mark) for name, mark in special.items()}
    config = WhisperConfig(
        vocab_size=token("<|notimestamps|>") + 1 + WINDOW // 2 + 1,
        max_source_positions=WINDOW // 2,
        begin_suppress_tokens=[token("Ġ"), token("<|endoftext|>")],
        suppress_tokens=None,
        **special,
        **sizes,
    )
    model = WhisperForConditionalGeneration(config)
    randomise(model, torch.Generator().manual_seed(seed), 5.0, token("<|endoftext|>"), ending)
    after = [token(f"<|{mark}|>") for mark in ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech")]
    generation = {
        "begin_suppress_tokens": [token("Ġ"), token("<|endoftext|>")],
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 30,
        "max_length": config.max_target_positions,
        "no_timestamps_token_id": token("<|notimestamps|>"),
        "prev_sot_token_id": token("<|startofprev|>"),
        "suppress_tokens": [token("!"), token("#"), *after],
        **special,
    }
    if multilingual:
        generation["lang_to_id"] = {f"<|{language}|>": token(f"<|{language}|>") for language in LANGUAGES}
        generation["task_to_id"] = {task: token(f"<|{task}|>") for task in ("transcribe", "translate")}
    model.generation_config = GenerationConfig(**generation)
    model.half().save_pretrained(folder, max_shard_size="150KB" if multilingual else "5GB")
    WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=2).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def multilingual(folder):
    sizes = dict(
        num_mel_bins=80,
        d_model=48,
        encoder_layers=3,
        encoder_attention_heads=4,
        encoder_ffn_dim=60,
        decoder_layers=2,
        decoder_attention_heads=6,
        decoder_ffn_dim=72,
        max_target_positions=90,
    )
    whisper(folder, 3, sizes, True, False, 1.4)


def english(folder):
    sizes = dict(
        num_mel_bins=128,
        d_model=32,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=40,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=36,
        max_target_positions=80,
    )
    whisper(folder, 10, sizes, False, True, 8.0)


MODELS = {"multilingual": multilingual, "english": english}


def chirps(rate, count, seed):
    """Rising and falling tones with pauses and some noise, from -1 to 1, none of it above 3 kHz but the noise."""
    generator = numpy.random.default_rng(seed)
    t = numpy.arange(count) / rate
    sound = numpy.zeros(count)
    for start in numpy.arange(0.1, count / rate - 0.3, 0.55):
        low, high = sorted(generator.uniform(200, 3000, 2))
        local = t - start
        envelope = numpy.where((local > 0) & (local < 0.4), numpy.sin(numpy.pi * numpy.clip(local / 0.4, 0, 1)) ** 2, 0)
        sound += 0.6 * envelope * numpy.sin(2 * numpy.pi * (low * local + (high - low) * local**2))
    return numpy.clip(sound + 0.01 * generator.standard_normal(count), -1, 1)


def write_wav(path, rate, bits, channels):
    """Channels are from -1 to 1."""
    frames = numpy.stack(channels, 1)
    whole = numpy.clip(numpy.round(frames * 2 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(numpy.int32)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        # Eight bits have no sign, others do.
        data = (whole + 128).astype(numpy.uint8) if bits == 8 else whole.astype("<i4").view(numpy.uint8)
        if bits != 8:
            data = data.reshape(-1, 4)[:, : bits // 8]
        file.writeframes(data.tobytes())


def read_wav(path):
    """The mean of the channels, and the rate."""
    with wave.open(str(path), "rb") as file:
        channels, width, rate, count = file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()
        data = numpy.frombuffer(file.readframes(count), numpy.uint8).reshape(-1, width)
    if width == 1:
        whole = data[:, 0].astype(numpy.int64) - 128
    else:
        whole = sum(data[:, i].astype(numpy.int64) << (8 * i) for i in range(width))
        whole -= (whole >> (8 * width - 1)) << (8 * width)
    numbers = whole / 2 ** (8 * width - 1)
    return numbers.reshape(-1, channels).mean(1), rate


def resampled(x, rate):
    """A sinc in a Kaiser window (beta 10) of 64 zeros a side, at 0.95 of the lower of both limits."""
    if rate == RATE:
        return x.astype(numpy.float32)
    cutoff = min(1.0, RATE / rate) * 0.95
    reach = 64 / cutoff
    y = numpy.zeros(-(-len(x) * RATE // rate))
    for n in range(len(y)):
        at = n * rate / RATE
        k = numpy.arange(math.ceil(at - reach), math.floor(at + reach) + 1)
        distance = at - k
        inside = numpy.sqrt(numpy.clip(1 - (distance / reach) ** 2, 0, 1))
        weights = numpy.sinc(cutoff * distance) * numpy.i0(10 * inside)
        weights[numpy.abs(distance) >= reach] = 0
        weights /= weights.sum()
        known = (k >= 0) & (k < len(x))
        y[n] = (weights[known] * x[k[known]]).sum()
    return y.astype(numpy.float32)


class Margins(transformers.LogitsProcessor):
    """How clear the choices were: the least distance of the likeliest from the next."""

    least = math.inf

    def __call__(self, tokens, scores):
        first, second = scores.topk(2).values[0]
        if torch.isfinite(second):
            self.least = min(self.least, float(first - second))
        return scores


def content_only(model, frames):
    """Has a recording shorter than a window end where it ends, as OpenAI's program does, and not with the window."""
    segment = WhisperForConditionalGeneration._get_input_segment
    model._retrieve_max_frames_and_seek = lambda **_: (torch.tensor([frames]), torch.zeros(1, dtype=torch.long))
    model._get_input_segment = lambda **given: segment(**{**given, "seek_num_frames": WINDOW - given["seek"]})


def transcribe(model, tokenizer, features, samples, **options):
    if model.generation_config.is_multilingual:
        options.setdefault("task", "transcribe")
    if len(samples) <= WINDOW * 160:
        content_only(model, -(-len(samples) // 160))
    margins = Margins()
    result = model.generate(
        features, return_timestamps=True, return_segments=True, logits_processor=[margins], **options
    )
    for name in ("_retrieve_max_frames_and_seek", "_get_input_segment"):
        model.__dict__.pop(name, None)
    end = model.generation_config.eos_token_id
    text = lambda tokens: tokenizer.decode([token for token in tokens if token < end])
    segments = [
        {"start": round(float(segment["start"]) * 1000), "end": round(float(segment["end"]) * 1000), "text": text(tokens)}
        for segment in result["segments"][0]
        for tokens in [segment["tokens"].tolist()]
    ]
    whole = [token for segment in result["segments"][0] for token in segment["tokens"].tolist()]
    return {"text": text(whole), "segments": segments}, margins.least


@torch.no_grad()
def golden(folder, out, recordings):
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    settings = model.generation_config
    values, asked, least = {}, [], math.inf
    for name in recordings:
        samples = resampled(*read_wav(out.parent / f"recordings/{name}.wav"))
        padding = "max_length" if len(samples) <= WINDOW * 160 else "longest"
        features = extractor(
            samples, sampling_rate=RATE, truncation=False, padding=padding, return_tensors="pt"
        ).input_features
        first = torch.nn.functional.pad(features[..., :WINDOW], (0, max(0, WINDOW - features.shape[-1])))
        # Of frames every fourth, so that the files stay small.
        values[f"{name}.features"] = features[0].T[-WINDOW::4]
        values[f"{name}.encoded"] = model.model.encoder(first).last_hidden_state[0]
        begin = [settings.decoder_start_token_id]
        language = None
        if settings.is_multilingual:
            token = int(model.detect_language(first)[0])
            scores = model(first, decoder_input_ids=torch.tensor([begin])).logits[0, -1]
            known = scores[list(settings.lang_to_id.values())].topk(2).values
            least = min(least, float(known[0] - known[1]))
            language = {id: mark for mark, id in settings.lang_to_id.items()}[token][2:-2]
            begin = [*begin, token, settings.task_to_id["transcribe"]]
        tokens = list(begin)
        for _ in range(STEPS):
            scores = model(first, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            best = scores.topk(2).values
            least = min(least, float(best[0] - best[1]))
            tokens.append(int(scores.argmax()))
        values[f"{name}.scores"] = model(first, decoder_input_ids=torch.tensor([tokens[:8]])).logits[0]
        ways = {"plain": {}}
        if settings.is_multilingual:
            ways["translated"] = {"language": "<|de|>", "task": "translate"}
            prompt = tokenizer.encode(f" {PROMPT}", add_special_tokens=False).ids
            ways["prompted"] = {"prompt_ids": torch.tensor([settings.prev_sot_token_id, *prompt])}
        results = {}
        for way, options in ways.items():
            results[way], margin = transcribe(model, tokenizer, features, samples, **options)
            least = min(least, margin)
        asked.append({
            "name": name,
            "samples": len(samples),
            "frames": features.shape[-1],
            "language": language,
            "begin": begin,
            "greedy": tokens[len(begin):],
            **results,
        })
        if name == "short" and settings.is_multilingual:
            values[f"{name}.samples"] = torch.from_numpy(samples[:5000])
        for way, result in results.items():
            times = [(segment["start"], segment["end"]) for segment in result["segments"]]
            print(f"{folder.name} {name} {way}: {len(result['text'])} characters, {times}")
    answers = {"transformers": transformers.__version__, "model_hash": model_hash(folder), "prompt": PROMPT, "recordings": asked}
    metadata = {"golden": json.dumps(answers, ensure_ascii=False)}
    save_file({name: value.float().contiguous() for name, value in values.items()}, out, metadata=metadata)
    print(f"{folder.name}: scores from the next at least {least:.1e}, std {float(values['long.scores'].std()):.2f}, language {language}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    sounds = root / "recordings"
    sounds.mkdir(parents=True, exist_ok=True)
    write_wav(sounds / "long.wav", 16_000, 8, [chirps(16_000, 84_913, 1)])
    write_wav(sounds / "short.wav", 8_000, 24, [chirps(8_000, 10_301, seed) for seed in (2, 3)])
    for name, make in MODELS.items():
        # Weights are made once: they are part of the tests.
        if not (root / name / "config.json").exists():
            shutil.rmtree(root / name, ignore_errors=True)
            make(root / name)
            for extra in ("README.md", ".gitattributes"):
                (root / name / extra).unlink(missing_ok=True)
        golden(root / name, root / f"{name}.safetensors", ["long", "short"])
