"""A market inside a Python program: pictures, executors written in Python, cancellation, errors by kind."""

import array
import asyncio
import json
import multiprocessing
import pathlib

import cuckoo
import pytest

MODELS = pathlib.Path(__file__).resolve().parents[3] / "examples" / "models"
SHAPES = MODELS / "shapes"


class Shout:
    """Answers in capitals."""

    def __init__(self):
        self.seen = []

    def capabilities(self):
        return [
            {
                "model": "shout",
                "model_hash": "0x" + "11" * 32,
                "kernels": "python-1",
                "max_input_bytes": 4096,
                "min_price": "0x0",
            }
        ]

    async def execute(self, task, context):
        self.seen.append(task)
        context.progress(0.5)
        return task["input"].upper().encode(), "application/json"


class Sleeper(Shout):
    """Never ends by itself."""

    def __init__(self):
        super().__init__()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def execute(self, task, context):
        self.started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Mirror(Shout):
    """Gives the blob that its input names back, reversed."""

    async def execute(self, task, context):
        data, media_type = await context.blob(json.loads(task["input"])["sound"])
        return data[::-1], media_type


class Broken(Shout):
    def __init__(self, error):
        super().__init__()
        self.error = error

    async def execute(self, task, context):
        raise self.error


async def market(executor, model="shout", **settings):
    place = await cuckoo.LocalMarket.open(seed=1)
    coordinator = await place.coordinator(
        {"models": [{"model": model, "price": "0.05"}], "audit_probability": 0.0,
         "lease_millis": 3000, "heartbeat_millis": 200, **settings}
    )
    miner = await place.miner(coordinator, [executor])
    return coordinator, miner


async def test_a_picture_is_drawn_signed_and_paid():
    coordinator, miner = await market(cuckoo.ImageExecutor(SHAPES, model="shapes"), model="shapes")
    result = await coordinator.run("shapes", {"prompt": "a large red circle on a blue background", "steps": 4})
    assert result.media_type == "image/png"
    assert result.output.startswith(b"\x89PNG")
    assert result.receipt["value"]["task"] == result.task
    assert coordinator.status()["completed"] == 1
    (voucher,) = miner.vouchers()
    assert int(voucher["value"]["cumulative"], 16) == 5 * 10**16
    await miner.close()
    await coordinator.close()


async def test_a_language_model_answers():
    executor = cuckoo.TextExecutor(MODELS / "stories", model="chat")
    coordinator, miner = await market(executor, model="chat")
    question = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 64, "temperature": 0}
    result = await coordinator.run("chat", question)
    text = "".join(json.loads(line).get("text", "") for line in result.output.splitlines())
    assert "42" in text
    await miner.close()
    await coordinator.close()


async def test_texts_become_vectors():
    executor = cuckoo.EmbeddingExecutor(MODELS / "captions", model="embed")
    coordinator, miner = await market(executor, model="embed")
    texts = ["a large red circle", "a big crimson disc", "a small blue square"]
    result = await coordinator.run("embed", {"texts": texts})
    numbers = array.array("f", result.output)
    width = len(numbers) // len(texts)
    one, alike, other = (numbers[i * width : (i + 1) * width] for i in range(len(texts)))

    def product(other):
        return sum(a * b for a, b in zip(one, other))

    assert product(alike) > product(other)
    await miner.close()
    await coordinator.close()


async def test_a_python_class_serves_as_executor():
    executor = Shout()
    coordinator, miner = await market(executor)
    task = await coordinator.submit("shout", {"say": "cuckoo"})
    result = await task.result()
    assert b'"SAY":"CUCKOO"' in result.output.replace(b" ", b"")
    assert task.state()["state"] == "completed"
    assert executor.seen[0]["task"] == task.id
    await miner.close()
    await coordinator.close()


async def test_bytes_go_beside_the_input():
    coordinator, miner = await market(Mirror())
    name = await coordinator.put_blob(b"\x00\x01\x02", "audio/wav")
    assert name.startswith("blob:0x")
    result = await coordinator.run("shout", {"sound": name})
    assert (result.output, result.media_type) == (b"\x02\x01\x00", "audio/wav")
    with pytest.raises(cuckoo.InvalidError, match="not here"):
        await coordinator.run("shout", {"sound": "blob:0x" + "12" * 32})
    await miner.close()
    await coordinator.close()


async def test_many_tasks_run_at_once():
    coordinator, miner = await market(Shout())
    results = await asyncio.gather(*(coordinator.run("shout", {"n": n}) for n in range(20)))
    assert len({result.task for result in results}) == 20
    await miner.close()
    await coordinator.close()


async def test_cancelling_the_coroutine_cancels_the_task_and_the_executor():
    executor = Sleeper()
    coordinator, miner = await market(executor)
    waiting = asyncio.ensure_future(coordinator.run("shout", {}))
    await asyncio.wait_for(executor.started.wait(), 20)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(executor.cancelled.wait(), 20)
    assert coordinator.status()["cancelled"] == 1
    await miner.close()
    await coordinator.close()


async def test_errors_have_a_class_for_each_kind():
    coordinator, miner = await market(Shout())
    with pytest.raises(cuckoo.CuckooError) as raised:
        await coordinator.run("no-such-model", {})
    assert raised.value.kind in ("invalid", "not_found")
    with pytest.raises(cuckoo.InvalidError):
        await coordinator.run("shout", [1, 2])
    with pytest.raises(TypeError):
        await coordinator.run("shout", {"not json": object()})
    with pytest.raises(cuckoo.InvalidError):
        await coordinator.run("shout", {}, timeout=-1)
    await miner.close()
    await coordinator.close()
    with pytest.raises(cuckoo.CuckooError) as raised:
        await coordinator.run("shout", {})
    assert raised.value.kind in ("closed", "unavailable", "rejected")


@pytest.mark.parametrize("error", [ValueError("bad luck"), cuckoo.ExecutionError("out of memory")])
async def test_what_an_executor_raises_reaches_the_requester(error):
    coordinator, miner = await market(Broken(error), max_attempts=1)
    with pytest.raises(cuckoo.CuckooError) as raised:
        await coordinator.run("shout", {}, timeout=20)
    assert str(error) in str(raised.value)
    await miner.close()
    await coordinator.close()


def child(queue):
    try:
        asyncio.run(cuckoo.LocalMarket.open())
        queue.put("worked")
    except cuckoo.ClosedError as error:
        queue.put(str(error))


def test_a_forked_child_is_told_so():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    assert "fork" in queue.get(timeout=20)
    process.join(20)


def test_a_missing_model_says_what_is_missing(tmp_path):
    with pytest.raises(cuckoo.NotFoundError, match="model_index.json"):
        cuckoo.ImageExecutor(tmp_path, model="shapes")
