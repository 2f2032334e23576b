"""Celery: `python celery_peer.py <redis port> <plan>`. The worker is Celery's own command, with the `solo` pool: for tasks
that do nothing it was the fastest of solo, threads and prefork on two cores."""

import collections
import json
import os
import statistics
import subprocess
import sys
import time

from celery import Celery

# The worker imports this file too, with Celery's own arguments.
PORT = os.environ.get("BENCH_REDIS_PORT") or sys.argv[1]
INPUT = {"prompt": "x" * 180}
OUTPUT = "y" * 1024

app = Celery("celery_peer", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.worker_prefetch_multiplier = 64


@app.task(name="task")
def task(prompt):
    return OUTPUT


def check(output):
    if output != OUTPUT:
        raise RuntimeError("a task gave something else than its output")


def rush(in_flight, seconds):
    """Tasks a second with so many at a time."""
    waiting = collections.deque()
    done, start = 0, time.perf_counter()
    end = start + seconds
    while waiting or time.perf_counter() < end:
        while len(waiting) < in_flight and time.perf_counter() < end:
            waiting.append(task.delay(**INPUT))
        # In the order of submission; what came meanwhile is here already.
        if waiting:
            check(waiting.popleft().get())
            done += 1
    return done / (time.perf_counter() - start)


def measure(plan):
    """The same as `measure` of `load.mjs`."""
    rates = []
    for width in plan["widths"]:
        in_flight, seconds = width["in_flight"], plan["seconds"]
        rush(in_flight, seconds / 2)
        per_second = statistics.median(rush(in_flight, seconds) for _ in range(plan["rounds"]))
        rates.append({**width, "per_second": per_second})
    millis = []
    for _ in range(plan["single"]):
        start = time.perf_counter()
        check(task.delay(**INPUT).get())
        millis.append((time.perf_counter() - start) * 1000)
    # The first tenth warms up.
    millis = sorted(millis[plan["single"] // 10 :])
    p50, p99 = (millis[int(share * (len(millis) - 1))] for share in (0.5, 0.99))
    return {"rates": rates, "p50_millis": p50, "p99_millis": p99}


def main():
    worker = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "--pool", "solo", "--loglevel", "ERROR",
              "--without-gossip", "--without-mingle", "--without-heartbeat"]
    folder = os.path.dirname(os.path.abspath(__file__))
    worker = subprocess.Popen(worker, cwd=folder, env={**os.environ, "BENCH_REDIS_PORT": PORT},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        check(task.delay(**INPUT).get(timeout=60))
        print(json.dumps(measure(json.loads(sys.argv[2]))))
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
