"""Small Whispers of random weights, recordings, and what transformers made of them: `cuckoo-miner/tests/parity_speech.rs`."""

import json
import pathlib
import struct

SPEECH = pathlib.Path(__file__).resolve().parents[3] / "cuckoo-miner" / "tests" / "golden" / "speech"


def recording(name):
    return (SPEECH / "recordings" / f"{name}.wav").read_bytes()


def asked(model):
    """What transformers was asked, and what it answered."""
    with open(SPEECH / f"{model}.safetensors", "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"]["golden"])


def segments(written, millis):
    """Begin, end and text of each part, of which transformers also has those without a text, and times behind the end."""
    parts = [(part["start"], part["end"], part["text"].strip()) for part in written["segments"]]
    return [(min(start, millis), min(end, millis), text) for start, end, text in parts if text]
