"""Markets for the tests, closed when a test is over."""

import contextlib

import cuckoo
import pytest_asyncio


@pytest_asyncio.fixture
async def closing():
    """Closes, the last one first, what a test opened."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest_asyncio.fixture
async def open_market(closing):
    """Opens a market of one coordinator and one miner, which sells what its executors offer for 0.05 CAI a task."""

    async def opened(*executors, models=None, slots=1, **settings):
        offers = [offer for executor in executors for offer in executor.capabilities()]
        models = models or [{"model": offer["model"], "price": "0.05"} for offer in offers]
        # As long a second opinion is waited for when a miner calls an input invalid, and as long a machine may stall.
        lease = {"lease_millis": 6000, "heartbeat_millis": 200}
        place = await cuckoo.LocalMarket.open(seed=1)
        coordinator = await place.coordinator(
            {"models": models, "audit_probability": 0.0, **lease, **settings}
        )
        closing.push_async_callback(coordinator.close)
        miner = await place.miner(coordinator, list(executors), settings={"slots": slots})
        closing.push_async_callback(miner.close)
        return coordinator, miner

    return opened
