// The market at work: asks for a snapshot every other second while somebody looks.
import { ago, amount, count, fill, make, one, say, span, task } from './dom.js';
import { label, listen, showMiners } from './miners.js';

const PAUSE = 2_000;
const KEY = 'cuckoo-operator-key';

const pictures = new Map();
let names = new Map();

function ask(path) {
  const key = sessionStorage.getItem(KEY);
  return fetch(path, { headers: key ? { Authorization: `Bearer ${key}` } : {}, cache: 'no-store' });
}

async function look() {
  let wait = PAUSE;
  try {
    const answer = await ask('dashboard/state');
    if (answer.status === 401 || answer.status === 403) return lock((await answer.json()).message);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    mark('good', 'live');
  } catch {
    mark('bad', 'no answer');
    wait *= 2;
  }
  setTimeout(() => (document.hidden ? rest() : look()), wait);
}

/** Asks for nothing while nobody looks. */
function rest() {
  mark('quiet', 'paused');
  document.addEventListener('visibilitychange', look, { once: true });
}

function mark(kind, text) {
  one('#live').className = `tag ${kind}`;
  say(one('#live'), text);
}

function lock(message) {
  sessionStorage.removeItem(KEY);
  one('main').hidden = true;
  one('#locked').hidden = false;
  say(one('#refusal'), message);
  mark('quiet', 'waiting for a key');
  one('#key').focus();
}

function unlock(event) {
  event.preventDefault();
  sessionStorage.setItem(KEY, one('#key').value.trim());
  one('#key').value = '';
  one('#locked').hidden = true;
  look();
}

function show(state) {
  names = new Map(state.miners.map((miner) => [miner.node, miner]));
  one('main').hidden = false;
  showHead(state);
  showPace(state.pace);
  showMiners(state);
  showModels(state);
  showWorking(state);
  showPictures(state);
  showFailures(state);
}

function showHead(state) {
  say(one('#name'), state.name || 'Cuckoo');
  say(one('#about'), `coordinator #${state.coordinator}, epoch ${count(state.epoch)}, block ${count(state.block)}`);
  const { ready, reasons } = state.readiness;
  one('#ready').className = `tag ${ready ? 'good' : 'bad'}`;
  say(one('#ready'), ready ? 'ready' : 'not ready');
  one('#reasons').hidden = ready;
  one('#reasons ul').replaceChildren(...reasons.map((reason) => make('li', {}, reason.message)));
  say(one('#running'), count(state.running));
  say(one('#queued'), count(state.queued));
  say(one('#free'), count(state.free_slots));
  say(one('#completed'), count(state.completed));
  say(one('#failed'), count(state.failed));
  say(one('#escrow'), state.escrow_left === null ? '–' : amount(state.escrow_left));
}

function showPace({ step_seconds, completed, failed }) {
  const highest = Math.max(1, ...completed.map((done, at) => done + failed[at]));
  const svg = (tag, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const bars = completed.flatMap((done, at) => {
    const bar = (kind, number, above) => svg('rect', {
      class: kind, x: at + 0.1, width: 0.8, height: (39 * number) / highest, y: 39 - (39 * (number + above)) / highest,
    });
    return [...(done ? [bar('completed', done, 0)] : []), ...(failed[at] ? [bar('failed', failed[at], done)] : [])];
  });
  one('#pace svg').replaceChildren(svg('line', { class: 'ground', x1: 0, x2: completed.length, y1: 39.5, y2: 39.5, 'stroke-width': 0.5 }), ...bars);
  const sum = (list) => list.reduce((sum, number) => sum + number, 0);
  const minute = Math.round(60 / step_seconds);
  const lost = sum(failed);
  say(one('#rate'), `${count(sum(completed.slice(-minute)))} in the last minute, ${count(sum(completed))} in all`
    + (lost ? `, ${count(lost)} failed` : ''));
}

function showModels({ models, now }) {
  const number = (text) => make('td', { class: 'number' }, text);
  const seconds = (value) => (value === null ? '–' : span(value));
  const spare = (text) => make('td', { class: 'number spare' }, text);
  fill(one('#models tbody'), models.map((model) => make('tr', {},
    make('th', { scope: 'row', class: 'name' }, model.model),
    number(count(model.miners)),
    number(count(model.queued)),
    number(seconds(model.waits_since === null ? null : (now - model.waits_since) / 1000)),
    spare(seconds(model.typical_seconds)),
    spare(seconds(model.slow_seconds)))), 'No models are served.');
}

const miner = (node) => label(names.get(node)) || `#${node}`;

function showWorking({ working, now }) {
  fill(one('#working tbody'), working.map((lease) => {
    const progress = make('progress', { max: 1000, 'aria-label': 'progress' });
    if (lease.progress) progress.value = lease.progress;
    return make('tr', {},
      make('td', { class: 'spare' }, task(lease.task)),
      make('td', { class: 'name' }, lease.model),
      make('td', { class: 'name' }, miner(lease.miner)),
      make('td', { class: 'number' }, span((now - lease.since) / 1000)),
      make('td', {}, lease.audit ? make('span', { class: 'tag quiet' }, 'audit') : progress));
  }), 'Nothing is in work.');
}

function showFailures({ failures, now }) {
  fill(one('#failures tbody'), failures.map((failure) => make('tr', {},
    make('td', { class: 'when' }, ago(now, failure.at)),
    make('td', {}, make('span', { class: `tag ${failure.fault === 'nobody' ? 'quiet' : 'bad'}` }, failure.fault)),
    make('td', { class: 'message' }, failure.message, ' ', make('span', { class: 'quiet' }, failure.kind)),
    make('td', { class: 'name spare' }, failure.model),
    make('td', { class: 'spare' }, task(failure.task)))), 'None since the start.');
}

/** Loads what is new, each picture once, and lets go of what is shown no more. */
function showPictures(state) {
  const wanted = new Set(state.pictures.map((picture) => picture.task));
  for (const [id, url] of pictures) {
    if (!wanted.has(id)) {
      pictures.delete(id);
      if (url) URL.revokeObjectURL(url);
    }
  }
  for (const id of wanted) if (!pictures.has(id)) load(id, state);
  drawPictures(state);
}

async function load(id, state) {
  pictures.set(id, null);
  try {
    const answer = await ask(`v1/tasks/${id}/output`);
    const picture = answer.ok ? await answer.blob() : null;
    if (!picture?.type.startsWith('image/') || !pictures.has(id)) return;
    pictures.set(id, URL.createObjectURL(picture));
    drawPictures(state);
  } catch {
    // Asked for again with the next snapshot.
    pictures.delete(id);
  }
}

function drawPictures(state) {
  const shown = state.pictures.filter((picture) => pictures.get(picture.task));
  one('#pictures').hidden = shown.length === 0;
  const list = one('#pictures ul');
  // Those that are there stay: a picture that is drawn anew flickers.
  const known = new Map([...list.children].map((item) => [item.dataset.task, item]));
  list.replaceChildren(...shown.map((picture) => {
    const item = known.get(picture.task) ?? make('li', { 'data-task': picture.task },
      make('img', { src: pictures.get(picture.task), alt: `output of ${picture.model} by ${miner(picture.miner)}` }),
      make('span', { class: 'name' }, miner(picture.miner)), make('span'));
    say(item.lastElementChild, ago(state.now, picture.at));
    return item;
  }));
}

listen();
one('#locked form').addEventListener('submit', unlock);
look();
