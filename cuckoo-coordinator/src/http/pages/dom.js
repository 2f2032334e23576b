// Elements and texts. Everything foreign goes through textContent: nothing here reads markup.

/** Makes an element; properties that are no texts of attributes are set by the caller. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

export const one = (selector) => document.querySelector(selector);

/** Sets a text only where it changed, so that screen readers hear of changes alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Fills a table's body, or says in one line that there is nothing. */
export function fill(body, rows, nothing) {
  const columns = body.parentElement.tHead.rows[0].cells.length;
  const empty = () => make('tr', {}, make('td', { colspan: columns, class: 'quiet' }, nothing));
  body.replaceChildren(...(rows.length ? rows : [empty()]));
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const cents = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const count = (number) => (number < 1_000_000 ? whole : compact).format(number);
export const amount = (cai) => (cai < 1_000 && cai % 1 ? cents : cai < 10_000_000 ? whole : compact).format(cai);
export const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.01 ? 2 : 1)} %`;

/** A duration in seconds, to two places that matter. */
export function span(seconds) {
  if (seconds < 0.1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** How long ago, to the second, minute, hour or day. */
export function ago(now, at) {
  const seconds = Math.max(0, now - at) / 1000;
  const [size, unit] = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']].find(([size]) => seconds >= size) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

/** The end of a task's id, for it begins with the time, and the whole of it to hover. */
export const task = (id) => make('code', { title: id, class: 'task-id' }, `…${id.slice(-8)}`);
