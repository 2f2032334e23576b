// Takes the README's picture: node screenshot.mjs REPORT.html OUT.png
import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withPage } from './browser.mjs';

const [report, out] = process.argv.slice(2).map((path) => resolve(path));
mkdirSync(dirname(out), { recursive: true });
await withPage({ viewport: { width: 1240, height: 1780 }, deviceScaleFactor: 1, colorScheme: 'light' }, async (page) => {
  await page.goto(pathToFileURL(report).href);
  await page.screenshot({ path: out });
});
