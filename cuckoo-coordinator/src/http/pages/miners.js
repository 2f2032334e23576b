// The table of miners: sorted, searched, and readable with a thousand of them.
import { amount, count, fill, make, one, percent, say } from './dom.js';

const FIRST = 20;
const STEP = 100;

let state = { miners: [], others: { miners: 0 } };
let by = 'stake_share';
let falling = true;
let wanted = '';
let most = FIRST;

export const label = (miner) => (miner ? `${miner.name || 'unnamed'} #${miner.node}` : '');

/** Shows a snapshot's miners. */
export function showMiners(snapshot) {
  state = snapshot;
  draw();
}

/** Wires the search, the headings and the button; once. */
export function listen() {
  one('#search').addEventListener('input', (event) => {
    wanted = event.target.value.trim().toLowerCase();
    most = FIRST;
    draw();
  });
  one('#more').addEventListener('click', () => {
    most += STEP;
    draw();
  });
  for (const button of document.querySelectorAll('#miners th button')) {
    button.addEventListener('click', () => {
      falling = by === button.dataset.by ? !falling : button.dataset.by !== 'name';
      by = button.dataset.by;
      for (const heading of document.querySelectorAll('#miners th[aria-sort]')) heading.removeAttribute('aria-sort');
      button.parentElement.setAttribute('aria-sort', falling ? 'descending' : 'ascending');
      draw();
    });
  }
}

function order(a, b) {
  const compared = by === 'name' ? label(a).localeCompare(label(b)) : a[by] - b[by];
  return (falling ? -compared : compared) || a.node - b.node;
}

function draw() {
  const { miners, others } = state;
  const found = miners.filter((miner) => !wanted || label(miner).toLowerCase().includes(wanted)).sort(order);
  const shown = found.slice(0, most);
  const rest = found.slice(most);
  const widest = Math.max(1e-9, ...shown.flatMap((miner) => [miner.stake_share, miner.task_share]));
  const rows = shown.map((miner) => row(miner, widest));
  const left = rest.length + (wanted ? 0 : others.miners);
  if (left > 0) rows.push(together(rest, left, wanted ? undefined : others));
  fill(one('#miners tbody'), rows, wanted ? 'No miner is called so.' : 'No miner has come yet.');
  const all = count(miners.length + others.miners);
  say(one('#shown'), found.length > shown.length || wanted ? `${count(shown.length)} of ${all} miners` : '');
  one('#more').hidden = rest.length === 0;
}

function row(miner, widest) {
  const state = {
    connected: [],
    away: [' ', make('span', { class: 'tag quiet' }, 'away')],
    suspended: [' ', make('span', { class: 'tag bad' }, 'suspended')],
  }[miner.state];
  return make('tr', { class: miner.state },
    make('th', { scope: 'row', class: 'name' }, label(miner), ...state),
    make('td', { class: 'bars' }, bar('stake', miner.stake_share, widest), bar('task', miner.task_share, widest)),
    ...numbers(miner.stake_share, miner.task_share),
    ...[count(miner.tasks), count(miner.failed), count(miner.working), amount(miner.stake), amount(miner.promised)]
      .map((text) => make('td', { class: 'number spare' }, text)));
}

/** All that have no row of their own, in one. */
function together(rest, left, others) {
  const sum = (field) => rest.reduce((sum, miner) => sum + miner[field], others?.[field] ?? 0);
  return make('tr', { class: 'others' },
    make('th', { scope: 'row', class: 'name' }, `${count(left)} others together`),
    make('td', { class: 'bars' }),
    ...numbers(sum('stake_share'), sum('task_share')),
    make('td', { class: 'number spare' }, count(sum('tasks'))),
    make('td', { class: 'spare', colspan: 4 }));
}

const numbers = (stake, task) => [stake, task].map((share) => make('td', { class: 'number' }, percent(share)));

function bar(kind, share, widest) {
  const bar = make('div', { class: `bar ${kind}` });
  bar.style.width = `${(100 * share) / widest}%`;
  return bar;
}
