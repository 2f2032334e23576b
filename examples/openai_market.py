"""A market for OpenAI's clients: pictures, a chat, embeddings and transcripts, served over HTTP by one Python program.

    python examples/openai_market.py 127.0.0.1:8480

The pictures are those of the model that ships with the repository. The other three are small enough to be read here:
a chat model that knows only the conversation it is in, an embedding of letter trigrams, and an ear for Morse code.
"""

import asyncio
import collections
import io
import itertools
import json
import math
import pathlib
import random
import struct
import sys
import wave
import zlib

import cuckoo

SHAPES = pathlib.Path(__file__).resolve().parent / "models" / "shapes"


def capability(model, version):
    digest = zlib.crc32(version.encode())
    return {
        "model": model,
        "model_hash": f"0x{digest:064x}",
        "kernels": "python-1",
        "max_input_bytes": 65536,
        "min_price": "0x0",
    }


class Bigrams:
    """Goes on with a conversation word by word, each drawn from those that followed the last one in it."""

    def capabilities(self):
        return [capability("bigrams", "bigrams, version 1")]

    async def execute(self, task, context):
        asked = json.loads(task["input"])
        words = " ".join(message["content"] for message in asked.get("messages", [])).split()
        if not words:
            raise cuckoo.InvalidError("the conversation has no words to learn from; say something")
        for name in ("top_p", "frequency_penalty", "presence_penalty", "format"):
            if name in asked:
                raise cuckoo.InvalidError(f"this model does not honour {name}; leave it out")
        follow = collections.defaultdict(collections.Counter)
        for first, second in zip(words, words[1:] + words[:1]):
            follow[first][second] += 1
        draw = random.Random(asked["seed"])
        temperature = asked.get("temperature", 1.0)
        last, said, output = words[-1], "", b""
        made, reason = 0, "length"
        while made < asked.get("max_tokens", 20):
            odds = weights(follow[last], temperature)
            last = draw.choices(list(odds), list(odds.values()))[0]
            space = " " if said else ""
            text = space + last
            if any(stop in said + text for stop in asked.get("stop", [])):
                reason = "stop"
                break
            said += text
            line = {"text": text}
            if "logprobs" in asked:
                likely = sorted(odds.items(), key=lambda item: -item[1])[: asked["logprobs"]]
                top = [{"token": space + word, "logprob": math.log(share)} for word, share in likely]
                line["logprobs"] = [{"token": text, "logprob": math.log(odds[last]), "top": top}]
            chunk = json.dumps(line).encode() + b"\n"
            context.emit(chunk)
            output += chunk
            made += 1
            await asyncio.sleep(0)
        output += json.dumps({"finish_reason": reason}).encode() + b"\n"
        usage = {"input_units": len(words), "output_units": made, "compute_millis": 0}
        return output, "application/x-ndjson", usage


def weights(counts, temperature):
    """Probabilities of words that were counted, sharpened or flattened."""
    if temperature == 0:
        return {max(counts, key=counts.get): 1.0}
    powers = {word: count ** (1 / temperature) for word, count in counts.items()}
    total = sum(powers.values())
    return {word: power / total for word, power in powers.items()}


class Trigrams:
    """Embeds a text as how often its letter trigrams occur, hashed into so many numbers, on the unit sphere."""

    LENGTH = 64

    def capabilities(self):
        return [capability("trigrams", "trigrams, version 1")]

    async def execute(self, task, context):
        texts = json.loads(task["input"])["texts"]
        numbers = [number for text in texts for number in self.embed(text)]
        output = struct.pack(f"<{len(numbers)}f", *numbers)
        read = sum(len(text.split()) for text in texts)
        usage = {"input_units": read, "output_units": len(texts), "compute_millis": 0}
        return output, "application/vnd.cuckoo.f32", usage

    def embed(self, text):
        vector = [0.0] * self.LENGTH
        padded = f"  {text.lower()} "
        for at in range(len(padded) - 2):
            vector[zlib.crc32(padded[at : at + 3].encode()) % self.LENGTH] += 1.0
        length = math.sqrt(sum(number * number for number in vector))
        return [number / length for number in vector]


class Morse:
    """Writes down Morse code, a word a segment, by where a recording is loud and for how long. In English, it says what
    telegraphers' abbreviations stand for."""

    SIGNS = (
        "a .- b -... c -.-. d -.. e . f ..-. g --. h .... i .. j .--- k -.- l .-.. m -- n -. o --- p .--. q --.- r .-. "
        "s ... t - u ..- v ...- w .-- x -..- y -.-- z --.. 0 ----- 1 .---- 2 ..--- 3 ...-- 4 ....- 5 ..... 6 -.... "
        "7 --... 8 ---.. 9 ----. . .-.-.- , --..-- ? ..--.. / -..-."
    ).split()
    LETTERS = dict(zip(SIGNS[1::2], SIGNS[::2]))
    ABBREVIATIONS = {"cq": "calling anyone", "qth": "my position", "tnx": "thanks", "73": "best regards"}
    # A sample of 16 bits is loud from here on.
    LOUD = 3000

    def capabilities(self):
        return [capability("morse", "morse, version 1")]

    async def execute(self, task, context):
        asked = json.loads(task["input"])
        recording, _ = await context.blob(asked["audio"])
        try:
            with wave.open(io.BytesIO(recording)) as file:
                rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
                frames = file.readframes(file.getnframes())
        except (wave.Error, EOFError) as error:
            why = str(error) or "it breaks off"
            raise cuckoo.InvalidError(f"the recording cannot be read ({why}); send a WAV file of PCM") from error
        if (width, channels) != (2, 1) or rate < 1000:
            raise cuckoo.InvalidError("the recording is not of one channel with 16 bits; convert it with ffmpeg -ac 1")
        count = len(frames) // 2
        samples = struct.unpack(f"<{count}h", frames[: 2 * count])
        words = list(self.words(samples, rate // 100))
        if asked.get("translate"):
            words = [(start, end, self.ABBREVIATIONS.get(word, word)) for start, end, word in words]
        millis = count * 1000 // rate
        transcript = {
            "text": " ".join(word for _, _, word in words),
            "language": asked.get("language", "en"),
            "duration_millis": millis,
            "segments": [
                {"start_millis": 10 * start, "end_millis": min(10 * end, millis), "text": word}
                for start, end, word in words
            ],
        }
        usage = {"input_units": -(-millis // 1000), "output_units": len(words), "compute_millis": 0}
        return json.dumps(transcript).encode(), "application/vnd.cuckoo.transcript+json", usage

    def words(self, samples, step):
        """Begin, end and text of each word, counted in steps of so many samples."""
        loud = [max(map(abs, samples[at : at + step])) > self.LOUD for at in range(0, len(samples), step)]
        runs = [(on, len(list(run))) for on, run in itertools.groupby(loud)]
        unit = min((length for on, length in runs if on), default=1)
        at, start, word, sign = 0, 0, "", ""
        # The silence after the last sign ends its word.
        for on, length in [*runs, (False, 7 * unit)]:
            if on:
                start = start if word or sign else at
                sign += "-" if length > 2 * unit else "."
            elif sign and length > 2 * unit:
                word, sign = word + self.LETTERS.get(sign, "?"), ""
            if not on and word and length > 5 * unit:
                yield start, at, word
                word = ""
            at += length


MODELS = [
    {"model": "shapes", "kind": "image", "price": "0.05"},
    {"model": "bigrams", "kind": "chat", "price": "0.01"},
    {"model": "trigrams", "kind": "embeddings", "price": "0.001"},
    {"model": "morse", "kind": "transcription", "price": "0.001"},
]


async def main(address):
    market = await cuckoo.LocalMarket.open()
    coordinator = await market.coordinator({"models": MODELS, "audit_probability": 0.0})
    executors = [cuckoo.ImageExecutor(SHAPES, model="shapes"), Bigrams(), Trigrams(), Morse()]
    miner = await market.miner(coordinator, executors, settings={"slots": 4})
    server = await coordinator.serve(address)
    print(f"base_url: {server.url}/v1", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()
        await miner.close()
        await coordinator.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:] or ["127.0.0.1:8480"]))
    except KeyboardInterrupt:
        pass
