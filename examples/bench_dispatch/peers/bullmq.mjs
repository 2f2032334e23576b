// BullMQ: `node bullmq.mjs <redis port> <plan>`. The submitter waits for each job's end by its queue's events, as BullMQ's
// documentation has it.
import { Queue, QueueEvents, Worker } from "bullmq";
import { INPUT, OUTPUT, measure } from "./load.mjs";
import { ready, startWorker } from "./worker.mjs";

const [port, argument, role] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };

if (role === "worker") {
  const worker = new Worker("tasks", async () => OUTPUT, { connection, concurrency: Number(argument) });
  await worker.waitUntilReady();
  ready(() => worker.close());
} else {
  const queue = new Queue("tasks", { connection });
  const events = new QueueEvents("tasks", { connection });
  await events.waitUntilReady();
  // Each task in flight listens.
  events.setMaxListeners(0);
  queue.setMaxListeners(0);
  const run = async () => {
    const job = await queue.add("task", INPUT);
    if ((await job.waitUntilFinished(events)) !== OUTPUT) throw new Error("a task gave something else than its output");
  };
  await measure(JSON.parse(argument), run, (atWorker) => startWorker(port, atWorker));
  process.exit(0);
}
