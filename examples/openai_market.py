"""A market for OpenAI's clients: pictures, a chat and embeddings, served over HTTP by one Python program.

    python examples/openai_market.py 127.0.0.1:8480

The pictures are those of the model that ships with the repository. The other two are small enough to be read here:
a chat model that knows only the conversation it is in, and an embedding of letter trigrams.
"""

import asyncio
import collections
import json
import math
import pathlib
import random
import struct
import sys
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
        for name in ("top_p", "frequency_penalty", "presence_penalty"):
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


MODELS = [
    {"model": "shapes", "kind": "image", "price": "0.05"},
    {"model": "bigrams", "kind": "chat", "price": "0.01"},
    {"model": "trigrams", "kind": "embeddings", "price": "0.001"},
]


async def main(address):
    market = await cuckoo.LocalMarket.open()
    coordinator = await market.coordinator({"models": MODELS, "audit_probability": 0.0})
    executors = [cuckoo.ImageExecutor(SHAPES, model="shapes"), Bigrams(), Trigrams()]
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
