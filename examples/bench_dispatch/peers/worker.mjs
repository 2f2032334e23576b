// A worker is a process of its own, as in production: the same program with `worker` as its last argument.
import { fork } from "node:child_process";
import { once } from "node:events";

/** Starts this program again as a worker that takes `atWorker` tasks at once; gives how to stop it. */
export async function startWorker(port, atWorker) {
  const child = fork(process.argv[1], [port, String(atWorker), "worker"]);
  const ended = once(child, "exit");
  await Promise.race([
    once(child, "message"),
    ended.then(() => {
      throw new Error("the worker did not start");
    }),
  ]);
  return async () => {
    child.disconnect();
    await ended;
  };
}

/** Tells that a worker is ready, and has `stop` called when it is not wanted any more. */
export function ready(stop) {
  process.once("disconnect", () => stop().finally(() => process.exit(0)));
  process.send("ready");
}
