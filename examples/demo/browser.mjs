// Headless Chromium as the tests and the screenshot use it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** Opens a page of the given size, passes it to `use`, and always closes the browser. */
export async function withPage(options, use) {
  const profile = mkdtempSync(join(tmpdir(), 'cuckoo-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CUCKOO_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
    ...options,
  });
  // Only a hang reaches it: the cores may be busy with pictures.
  context.setDefaultTimeout(120_000);
  try {
    return await use(await context.newPage());
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}
