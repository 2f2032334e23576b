// Takes the documents' picture of the dashboard: node screenshot.mjs OUT.png
import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { withPage } from '../demo/browser.mjs';
import { withMarket } from './host.mjs';

const out = resolve(process.argv[2]);
mkdirSync(dirname(out), { recursive: true });
await withMarket(6, (address) => withPage({ viewport: { width: 1240, height: 1500 }, deviceScaleFactor: 1, colorScheme: 'light' }, async (page) => {
  await page.goto(address);
  await page.locator('.pictures img').nth(11).waitFor();
  // Slow enough for miners to be free, long enough for shares to show.
  await page.waitForFunction(() => Number(document.querySelector('#completed').textContent) >= 120, null, { timeout: 600_000 });
  await page.screenshot({ path: out, fullPage: true });
}), ['--tasks', 12, '--pause', 1500]);
