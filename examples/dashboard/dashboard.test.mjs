// Opens the dashboard of a real market, as its operator would, and looks at what is on the page.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { withPage } from '../demo/browser.mjs';
import { withMarket } from './host.mjs';

const pictures = process.env.CUCKOO_SCREENSHOTS;
const wide = { width: 1280, height: 900 };
const narrow = { width: 390, height: 844 };

/** A page that must not complain, ask others for anything, or stick out sideways. */
async function looking(address, options, use) {
  await withPage(options, async (page) => {
    const complaints = [];
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('request', (request) => {
      if (!request.url().startsWith(new URL(address).origin) && !/^(data|blob):/.test(request.url())) {
        complaints.push(`asked for ${request.url()}`);
      }
    });
    await page.goto(address);
    await use(page);
    assert.deepEqual(complaints, []);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `sticks out by ${overflow} pixels`);
  });
}

const live = (page) => page.locator('#live', { hasText: 'live' }).waitFor();
const text = (page, selector) => page.locator(selector).innerText();

async function keep(page, name) {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
}

test('nobody is there yet', () => withMarket(0, async (address) => {
  await looking(address, { viewport: wide, colorScheme: 'light' }, async (page) => {
    await live(page);
    assert.equal(await text(page, '#name'), 'Nest');
    assert.equal(await text(page, '#ready'), 'ready');
    assert.equal(await text(page, '#completed'), '0');
    assert.match(await text(page, '#miners tbody'), /No miner has come yet/);
    assert.match(await text(page, '#working tbody'), /Nothing is in work/);
    assert.match(await text(page, '#failures tbody'), /None since the start/);
    assert.ok(await page.locator('#pictures').isHidden());
    await keep(page, 'none-light');
  });
}));

test('six miners at work', () => withMarket(6, async (address) => {
  for (const [viewport, colorScheme] of [[wide, 'light'], [wide, 'dark'], [narrow, 'dark']]) {
    await looking(address, { viewport, colorScheme }, async (page) => {
      await live(page);
      const names = await page.locator('#miners tbody th').allInnerTexts();
      assert.deepEqual(names.map((name) => name.split(' #')[0]), ['Heron', 'Magpie', 'Plover', 'Wren', 'Finch', '<b>Dunnock</b>']);
      assert.ok(Number(await text(page, '#completed')) >= 24);
      assert.ok(Number(await text(page, '#queued')) >= 3, 'nobody chats');
      const widths = await page.locator('#miners .bar').evaluateAll((all) => all.map((bar) => bar.getBoundingClientRect().width));
      assert.equal(widths.length, 12);
      assert.ok(widths[0] > widths[10] && widths[10] > 0, 'the bars say who has more');
      assert.match(await text(page, '#failures tbody'), /requester/);
      assert.ok(await page.locator('#pace rect.completed').count() > 0);

      // Of a new one nothing is shown until it is loaded, so that at times there are fewer.
      await page.waitForFunction(() => {
        const images = [...document.querySelectorAll('.pictures img')];
        if (images.length > 12) throw new Error('more than a dozen');
        return images.length === 12 && images.every((image) => image.naturalWidth === 64 && image.checkVisibility());
      });

      const before = Number(await text(page, '#completed'));
      await page.waitForFunction((before) => Number(document.querySelector('#completed').textContent) > before, before);
      await keep(page, `six-${viewport === narrow ? 'narrow' : 'wide'}-${colorScheme}`);
    });
  }
}));

test('a thousand miners can be read', () => withMarket(1000, async (address) => {
  await looking(address, { viewport: wide, colorScheme: 'light' }, async (page) => {
    await live(page);
    const rows = page.locator('#miners tbody tr');
    assert.equal(await rows.count(), 21);
    assert.match(await rows.last().innerText(), /980 others together/);
    assert.match(await text(page, '#shown'), /20 of 1,000 miners/);
    await keep(page, 'thousand-light');

    await page.locator('#more').click();
    assert.equal(await rows.count(), 121);
    await page.getByLabel('Find a miner').fill('sparrow 77');
    assert.equal(await rows.count(), 11, 'Sparrow 77 and 770 to 779');
    await page.getByRole('button', { name: 'Miner', exact: true }).click();
    assert.equal(await page.locator('#miners th[aria-sort]').innerText().then((name) => name.trim()), 'Miner');
    assert.match(await rows.first().innerText(), /^Sparrow 77 /);
    await page.getByLabel('Find a miner').fill('nobody of this name');
    assert.match(await rows.first().innerText(), /No miner is called so/);
  });
}, ['--tasks', 60]));

test('the routes are explained', () => withMarket(0, async (address) => {
  const docs = new URL('/docs', address).href;
  for (const [viewport, colorScheme] of [[wide, 'light'], [narrow, 'dark']]) {
    await looking(docs, { viewport, colorScheme }, async (page) => {
      await page.locator('main section').first().waitFor();
      const { paths } = await page.evaluate(() => fetch('openapi.json').then((answer) => answer.json()));
      const routes = Object.values(paths).flatMap(Object.keys).length;
      assert.equal(await page.locator('main section').count(), routes);
      assert.equal(await page.locator('#contents li').count(), routes);
      await page.locator('#submit summary').first().click();
      // What a type is made of comes with the event that tells of its opening, a moment after the click.
      await page.locator('#submit details[open]', { hasText: 'timeout_millis' }).waitFor();
      await keep(page, `docs-${colorScheme}`);
      await page.getByLabel('Find a route').fill('/v1/quotes');
      assert.ok(await page.locator('#quote').isVisible());
      assert.ok(await page.locator('#poll').isHidden());
    });
  }
}));
