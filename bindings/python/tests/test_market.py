"""A market inside a Python program: executors written in Python, cancellation, errors by kind."""

import asyncio
import json
import multiprocessing
import sys

import cuckoo
import pytest


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


class Shepherd(Shout):
    """Counts sheep, twenty a second."""

    def work(self, task):
        return json.loads(task["input"])["sheep"]

    def trials(self, model):
        assert model == "shout"
        yield "a lamb", {"sheep": 1, "seed": 1}
        yield "a flock", {"sheep": 20, "seed": 1}

    async def execute(self, task, context):
        sheep = json.loads(task["input"])["sheep"]
        self.seen.append(sheep)
        await asyncio.sleep(sheep / 20)
        return str(sheep).encode(), "text/plain"


class Dreamer(Shout):
    """Is asked how large a task is, and does not know."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def work(self, task):
        if isinstance(self.size, Exception):
            raise self.size
        return self.size


async def test_a_python_class_serves_as_executor(open_market):
    executor = Shout()
    coordinator, _ = await open_market(executor)
    task = await coordinator.submit("shout", {"say": "cuckoo"})
    result = await task.result()
    assert b'"SAY":"CUCKOO"' in result.output.replace(b" ", b"")
    assert task.state()["state"] == "completed"
    assert executor.seen[0]["task"] == task.id


async def test_bytes_go_beside_the_input(open_market):
    coordinator, _ = await open_market(Mirror())
    name = await coordinator.put_blob(b"\x00\x01\x02", "audio/wav")
    assert name.startswith("blob:0x")
    result = await coordinator.run("shout", {"sound": name})
    assert (result.output, result.media_type) == (b"\x02\x01\x00", "audio/wav")
    with pytest.raises(cuckoo.InvalidError, match="not here"):
        await coordinator.run("shout", {"sound": "blob:0x" + "12" * 32})


async def test_many_tasks_run_at_once(open_market):
    coordinator, _ = await open_market(Shout())
    results = await asyncio.gather(*(coordinator.run("shout", {"n": n}) for n in range(20)))
    assert len({result.task for result in results}) == 20


async def test_cancelling_the_coroutine_cancels_the_task_and_the_executor(open_market):
    executor = Sleeper()
    coordinator, _ = await open_market(executor)
    waiting = asyncio.ensure_future(coordinator.run("shout", {}))
    await asyncio.wait_for(executor.started.wait(), 60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(executor.cancelled.wait(), 60)
    assert coordinator.status()["cancelled"] == 1


async def test_errors_have_a_class_for_each_kind(open_market):
    coordinator, _ = await open_market(Shout())
    with pytest.raises(cuckoo.CuckooError) as raised:
        await coordinator.run("no-such-model", {})
    assert raised.value.kind in ("invalid", "not_found")
    with pytest.raises(cuckoo.InvalidError):
        await coordinator.run("shout", [1, 2])
    with pytest.raises(TypeError):
        await coordinator.run("shout", {"not json": object()})
    with pytest.raises(cuckoo.InvalidError):
        await coordinator.run("shout", {}, timeout=-1)
    await coordinator.close()
    with pytest.raises(cuckoo.CuckooError) as raised:
        await coordinator.run("shout", {})
    assert raised.value.kind in ("closed", "unavailable", "rejected")


@pytest.mark.parametrize("error", [ValueError("bad luck"), cuckoo.ExecutionError("out of memory")])
async def test_what_an_executor_raises_reaches_the_requester(open_market, error):
    coordinator, _ = await open_market(Broken(error), max_attempts=1)
    with pytest.raises(cuckoo.CuckooError) as raised:
        await coordinator.run("shout", {}, timeout=60)
    assert str(error) in str(raised.value)


async def test_a_python_class_says_how_large_a_task_is_and_what_to_try(open_market):
    executor = Shepherd()
    coordinator, _ = await open_market(executor)
    result = await coordinator.run("shout", {"sheep": 2})
    assert result.output == b"2"
    # What was tried came before, and a quick first one twice.
    assert executor.seen in ([1, 20, 2], [1, 1, 20, 2])
    # The miner gives it back at once; it waits for another one, which does not come.
    with pytest.raises(cuckoo.TimeoutError, match="takes this miner about"):
        await coordinator.run("shout", {"sheep": 10**6}, timeout=12)
    assert executor.seen[-1] == 2


@pytest.mark.parametrize("size", [None, "large", KeyError("goats")])
async def test_a_size_that_is_unknown_keeps_no_task_out(open_market, monkeypatch, size):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: reported.append(raised.exc_type))
    coordinator, _ = await open_market(Dreamer(size))
    assert (await coordinator.run("shout", {})).output
    assert reported == {None: [], "large": [TypeError]}.get(size, [KeyError])


@pytest.mark.parametrize("trials", [["a lamb"], [("a lamb",)], [("a lamb", b"1")], 1])
async def test_what_to_try_is_pairs(open_market, trials):
    executor = Shepherd()
    executor.trials = lambda model: trials
    with pytest.raises((cuckoo.InvalidError, TypeError)):
        await open_market(executor)


async def test_attributes_that_are_none_say_nothing(open_market):
    executor = Shout()
    executor.work = executor.trials = None
    coordinator, _ = await open_market(executor)
    assert (await coordinator.run("shout", {})).output
    assert len(executor.seen) == 1


@pytest.mark.parametrize("name, value", [("work", 8), ("work", "hard"), ("trials", []), ("trials", 0)])
async def test_attributes_that_are_no_methods_are_named(open_market, name, value):
    executor = Shout()
    setattr(executor, name, value)
    with pytest.raises(TypeError, match=f"`{name}` .* `{type(value).__name__}`"):
        await open_market(executor)


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
    assert "fork" in queue.get(timeout=60)
    process.join(60)
