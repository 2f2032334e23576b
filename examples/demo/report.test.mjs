// Opens the report that the demo wrote, as its reader would, and looks at what is on the page.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { withPage } from './browser.mjs';

const report = resolve(process.env.CUCKOO_REPORT ?? 'target/demo/report.html');

for (const colorScheme of ['light', 'dark']) {
  test(`the report opens and is complete (${colorScheme})`, async () => {
    assert.ok(existsSync(report), `${report} is missing: run make demo first`);
    await withPage({ viewport: { width: 1280, height: 900 }, colorScheme }, async (page) => {
      const complaints = [];
      page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('request', (request) => {
        if (!/^(file|data):/.test(request.url())) complaints.push(`asked the network for ${request.url()}`);
      });
      await page.goto(pathToFileURL(report).href);

      const closing = await page.locator('#closing').textContent();
      const said = closing.match(
        /^demo: (\d+) tasks, (\d+) images, (\d+) of (\d+) answers right, (\d+) texts embedded, (\d+) lost, cheater suspended after (\d+) tasks, share error (0\.\d+), slashed (\d+) CAI, rewards (\d+(?:\.\d+)?) CAI, redeemed (\d+(?:\.\d+)?) CAI$/,
      );
      assert.ok(said, closing);
      const [, tasks, images, right, answers, embedded, lost, , , slashed, rewards, redeemed] = said.map(Number);
      assert.equal(slashed, 20_000);
      assert.ok(rewards > 0 && redeemed > 0, 'votes and work are paid');
      assert.equal(lost, 0);
      assert.equal(tasks, images + answers + (1 + 3), 'pictures, answers, the captions and three queries');
      assert.ok(right >= answers - 1, `${right} of ${answers} answers are right`);
      assert.equal(embedded, images + 3);

      const pictures = page.locator('#gallery img');
      assert.equal(await pictures.count(), images);
      const drawn = await pictures.evaluateAll((all) =>
        all.filter((image) => image.complete && image.naturalWidth === 64 && image.naturalHeight === 64).length);
      assert.equal(drawn, images, 'every picture is drawn');

      assert.equal(await page.locator('#chats .chat').count(), answers);
      assert.equal(await page.locator('#chats .answer:not(.wrong)').count(), right);
      assert.match(await page.locator('#chats .chat').first().textContent(), /What is 17 \+ 25\?.*17 \+ 25 = 42\./);

      assert.equal(await page.locator('#searches .search').count(), 3);
      for (const [index, words] of ['large red circle', 'large yellow ring', 'large green square'].entries()) {
        const found = await page.locator('#searches .search').nth(index).locator('figcaption').first().textContent();
        assert.ok(found.includes(words), `“${words}” is found: ${found}`);
      }

      assert.equal(await page.locator('#shares tbody tr').count(), 6);
      assert.equal(await page.locator('#shares tbody tr.suspended').count(), 1);
      assert.equal(await page.locator('#shares svg rect').count(), 18);
      for (const box of await page.locator('#shares svg rect.task').evaluateAll((all) =>
        all.map((bar) => bar.getBoundingClientRect().width))) {
        assert.ok(box > 0, 'every miner got work');
      }

      assert.ok(await page.locator('#life li').count() >= 6, 'a whole life of a task');
      assert.ok(await page.locator('#life .signature code').count() >= 3, 'receipts and vouchers are signed');
      assert.equal(await page.locator('#evidence article').count(), 3);
      assert.equal(await page.locator('#evidence article.convicted').count(), 1);
      assert.equal(await page.locator('#trial tr.juror').count(), 3);
      assert.match(await page.locator('#trial h2').textContent(), /was slashed 20000 CAI$/);
      assert.match(await page.locator('#trial p').first().textContent(), /3 of 3 got another output/);
      assert.deepEqual(complaints, []);

      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(overflow <= 0, 'nothing sticks out sideways');
    });
  });
}
