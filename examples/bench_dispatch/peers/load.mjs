// The load that the peers written in JavaScript are put under; `celery_peer.py` and our own `load.rs` do the same.
import { performance } from "node:perf_hooks";

export const INPUT = { prompt: "x".repeat(180) };
export const OUTPUT = "y".repeat(1024);

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];

/** Tasks a second with `inFlight` at a time. `run` does one task, from submission to its checked result. */
async function rush(run, inFlight, seconds) {
  const start = performance.now();
  const end = start + seconds * 1000;
  let done = 0;
  const lane = async () => {
    while (performance.now() < end) {
      await run();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return done / ((performance.now() - start) / 1000);
}

/**
 * Measures what `plan` says and prints it as a line of JSON. `worker` starts a worker that takes so many tasks at once and
 * gives how to stop it.
 */
export async function measure(plan, run, worker) {
  const rates = [];
  let stop = async () => {};
  for (const { in_flight, at_worker } of plan.widths) {
    await stop();
    stop = await worker(at_worker);
    await rush(run, in_flight, plan.seconds / 2);
    const values = [];
    for (let round = 0; round < plan.rounds; round += 1) values.push(await rush(run, in_flight, plan.seconds));
    rates.push({ in_flight, at_worker, per_second: median(values) });
  }
  const millis = [];
  for (let count = 0; count < plan.single; count += 1) {
    const start = performance.now();
    await run();
    millis.push(performance.now() - start);
  }
  await stop();
  // The first tenth warms up.
  const sorted = millis.slice(Math.floor(plan.single / 10)).sort((a, b) => a - b);
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  console.log(JSON.stringify({ rates, p50_millis: at(0.5), p99_millis: at(0.99) }));
}
