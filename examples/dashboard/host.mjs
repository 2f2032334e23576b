// A market in a process of its own, to look at.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';

const target = process.env.CARGO_TARGET_DIR ?? 'target';
const program = resolve(process.env.CUCKOO_DASHBOARD_HOST ?? `${target}/release/dashboard-host`);

/** Starts a market with so many miners, passes its dashboard's address to `use`, and always ends the market. */
export async function withMarket(miners, use, more = []) {
  const child = spawn(program, ['--miners', miners, ...more].map(String), { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.on('close', resolve));
  try {
    const lines = createInterface({ input: child.stdout });
    const address = await new Promise((found, lost) => {
      lines.once('line', found);
      child.once('error', lost);
      child.once('close', (code) => lost(new Error(`${program} ended with ${code}`)));
    });
    return await use(address);
  } finally {
    child.stdin.end();
    await ended;
  }
}
