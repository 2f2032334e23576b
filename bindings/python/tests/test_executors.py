"""The miner's own executors, each with a small model, in a market."""

import array
import json
import pathlib

import cuckoo
import golden
import pytest

MODELS = pathlib.Path(__file__).resolve().parents[3] / "examples" / "models"


async def test_a_picture_is_drawn_signed_and_paid(open_market):
    coordinator, miner = await open_market(cuckoo.ImageExecutor(MODELS / "shapes", model="shapes"))
    result = await coordinator.run("shapes", {"prompt": "a large red circle on a blue background", "steps": 4})
    assert result.media_type == "image/png"
    assert result.output.startswith(b"\x89PNG")
    assert result.receipt["value"]["task"] == result.task
    assert coordinator.status()["completed"] == 1
    (voucher,) = miner.vouchers()
    assert int(voucher["value"]["cumulative"], 16) == 5 * 10**16


async def test_a_language_model_answers(open_market):
    coordinator, _ = await open_market(cuckoo.TextExecutor(MODELS / "stories", model="chat"))
    question = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 64, "temperature": 0}
    result = await coordinator.run("chat", question)
    text = "".join(json.loads(line).get("text", "") for line in result.output.splitlines())
    assert "42" in text


async def test_texts_become_vectors(open_market):
    coordinator, _ = await open_market(cuckoo.EmbeddingExecutor(MODELS / "captions", model="embed"))
    texts = ["a large red circle", "a big crimson disc", "a small blue square"]
    result = await coordinator.run("embed", {"texts": texts})
    numbers = array.array("f", result.output)
    width = len(numbers) // len(texts)
    one, alike, other = (numbers[i * width : (i + 1) * width] for i in range(len(texts)))

    def product(other):
        return sum(a * b for a, b in zip(one, other))

    assert product(alike) > product(other)


@pytest.mark.parametrize("model", ["english", "multilingual"])
async def test_recordings_are_written_down_as_by_transformers(open_market, model):
    coordinator, _ = await open_market(cuckoo.SpeechExecutor(golden.SPEECH / model, model="whisper"))
    asked = golden.asked(model)
    ways = {
        "plain": {},
        "translated": {"language": "de", "translate": True},
        "prompted": {"prompt": asked["prompt"]},
    }
    for answer in asked["recordings"]:
        audio = await coordinator.put_blob(golden.recording(answer["name"]), "audio/wav")
        for way, more in ways.items():
            written = answer.get(way)
            if written is None:
                continue
            result = await coordinator.run("whisper", {"audio": audio, **more})
            assert result.media_type == "application/vnd.cuckoo.transcript+json"
            assert result.receipt["value"]["model_hash"] == "0x" + asked["model_hash"]
            told = json.loads(result.output)
            assert told["text"] == written["text"].strip()
            assert told["language"] == more.get("language", answer["language"] or "en")
            parts = [(part["start_millis"], part["end_millis"], part["text"]) for part in told["segments"]]
            assert parts == golden.segments(written, told["duration_millis"])


async def test_what_a_whisper_does_not_take_is_refused(open_market):
    executor = cuckoo.SpeechExecutor(golden.SPEECH / "english", model="whisper", max_seconds=3)
    coordinator, _ = await open_market(executor)
    long, short, song = [
        await coordinator.put_blob(data, "audio/wav")
        for data in (golden.recording("long"), golden.recording("short"), b"ID3" + bytes(100))
    ]
    assert (await coordinator.run("whisper", {"audio": short})).output
    # It is given back, and waits for a miner that takes it.
    with pytest.raises(cuckoo.TimeoutError, match="this miner takes 3"):
        await coordinator.run("whisper", {"audio": long}, timeout=12)
    with pytest.raises(cuckoo.InvalidError, match="no WAV file"):
        await coordinator.run("whisper", {"audio": song})
    with pytest.raises(cuckoo.InvalidError, match="language"):
        await coordinator.run("whisper", {"audio": short, "language": "de"})


EXECUTORS = [
    (cuckoo.ImageExecutor, MODELS / "shapes", {"max_pixels": 4096, "max_steps": 20}),
    (cuckoo.TextExecutor, MODELS / "stories", {"texts": 2, "memory_mib": 64, "chunk": 16}),
    (cuckoo.EmbeddingExecutor, MODELS / "captions", {"batch_tokens": 256, "max_texts": 8, "max_input_bytes": 4096}),
    (cuckoo.SpeechExecutor, golden.SPEECH / "english", {"max_seconds": 60, "recordings": 2}),
]


@pytest.mark.parametrize("executor, folder, limits", EXECUTORS)
def test_an_executor_has_a_price_and_limits(tmp_path, executor, folder, limits):
    made = executor(folder, model="mine", min_price="0.25", **limits)
    assert isinstance(made, cuckoo.ModelExecutor)
    (offer,) = made.capabilities()
    assert (offer["model"], int(offer["min_price"], 16)) == ("mine", 25 * 10**16)
    assert offer["max_input_bytes"] == limits.get("max_input_bytes", offer["max_input_bytes"])
    (free,) = executor(folder, "mine").capabilities()
    assert int(free["min_price"], 16) == 0 and free["model_hash"] == offer["model_hash"]
    name = next(iter(limits))
    for wrong in ({"colours": 3}, {name: "many"}, {name: -1}):
        with pytest.raises(cuckoo.InvalidError, match=name):
            executor(folder, model="mine", **wrong)
    with pytest.raises(cuckoo.InvalidError, match="cheap"):
        executor(folder, model="mine", min_price="cheap")
    with pytest.raises(cuckoo.InvalidError):
        executor(folder, model="my model")
    with pytest.raises(cuckoo.NotFoundError, match="not a folder"):
        executor(tmp_path / "nowhere", model="mine")


@pytest.mark.parametrize("executor, folder, limits", EXECUTORS)
def test_a_limit_has_a_range(tmp_path, executor, folder, limits):
    for name in limits:
        # Said before the model is looked for.
        with pytest.raises(cuckoo.InvalidError, match=name):
            executor(tmp_path / "nowhere", model="mine", **{name: 0})


@pytest.mark.parametrize(
    "executor, lacks",
    [
        (cuckoo.ImageExecutor, "model_index.json"),
        (cuckoo.TextExecutor, "config.json"),
        (cuckoo.EmbeddingExecutor, "config.json"),
        (cuckoo.SpeechExecutor, "config.json"),
    ],
)
def test_a_missing_model_says_what_is_missing(tmp_path, executor, lacks):
    with pytest.raises(cuckoo.NotFoundError, match=lacks):
        executor(tmp_path, model="mine")
