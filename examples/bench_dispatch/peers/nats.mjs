// NATS JetStream, bare: `node nats.mjs <port> <plan>`. Tasks are a work queue and results a stream, both kept in files;
// every message is acknowledged. There are no leases, retries or results beyond that.
import { AckPolicy, DeliverPolicy, RetentionPolicy, StorageType, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { INPUT, OUTPUT, measure } from "./load.mjs";
import { ready, startWorker } from "./worker.mjs";

const [port, argument, role] = process.argv.slice(2);
const connection = await connect({ servers: `127.0.0.1:${port}` });
const js = jetstream(connection);
const idOf = (message) => message.subject.slice(message.subject.indexOf(".") + 1);

if (role === "worker") {
  const consumer = await js.consumers.get("TASKS", "workers");
  const messages = await consumer.consume({ max_messages: Number(argument) });
  ready(() => messages.close());
  for await (const message of messages) {
    // The result is kept before its task is taken off the queue.
    js.publish(`results.${idOf(message)}`, OUTPUT).then(() => message.ack());
  }
} else {
  const manager = await jetstreamManager(connection);
  const storage = StorageType.File;
  await manager.streams.add({ name: "TASKS", subjects: ["tasks.*"], retention: RetentionPolicy.Workqueue, storage });
  await manager.streams.add({ name: "RESULTS", subjects: ["results.*"], storage });
  await manager.consumers.add("TASKS", { durable_name: "workers", ack_policy: AckPolicy.Explicit, max_ack_pending: 4096 });
  const waiting = new Map();
  const consumer = await js.consumers.get("RESULTS", { deliver_policy: DeliverPolicy.New });
  const results = await consumer.consume({ max_messages: 1024 });
  (async () => {
    for await (const message of results) {
      waiting.get(idOf(message))?.(message.string());
      waiting.delete(idOf(message));
    }
  })();
  const input = JSON.stringify(INPUT);
  let next = 0;
  const run = async () => {
    const id = String(next);
    next += 1;
    const result = new Promise((resolve) => waiting.set(id, resolve));
    await js.publish(`tasks.${id}`, input);
    if ((await result) !== OUTPUT) throw new Error("a task gave something else than its output");
  };
  await measure(JSON.parse(argument), run, (atWorker) => startWorker(port, atWorker));
  process.exit(0);
}
