// The OpenAPI document as a page for people: routes by tag, what they take, what they answer.
import { make, one, say } from './dom.js';

let schemas = {};

/** A paragraph, what is between backquotes as code. */
const text = (words) => (words ? [make('p', {}, ...words.split('`').map((part, at) => (at % 2 ? make('code', {}, part) : part)))] : []);
const nameOf = (reference) => reference.split('/').pop();
const resolve = (schema) => (schema?.$ref ? (schemas[nameOf(schema.$ref)] ?? {}) : (schema ?? {}));

/** What a schema is called, in few words. */
function kind(schema) {
  if (!schema) return 'anything';
  if (schema.$ref) return nameOf(schema.$ref);
  const some = schema.oneOf ?? schema.anyOf;
  if (some) return [...new Set(some.map(kind))].filter((name) => name !== 'null').join(' or ');
  if (schema.allOf) return schema.allOf.map(kind).join(' and ');
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(', ');
  const types = [schema.type ?? 'anything'].flat().filter((type) => type !== 'null');
  if (types.includes('array')) return `list of ${kind(schema.items)}`;
  return types.join(' or ') + (schema.format ? ` (${schema.format})` : '');
}

/** Whether there is more to say of a schema than its name. */
function opens(schema) {
  const known = resolve(schema);
  return Boolean(schema?.$ref || known.properties || known.allOf
    || [known.oneOf, known.anyOf].flat().some((part) => part && opens(part)) || (known.items && opens(known.items)));
}

/** A schema that opens when it is asked for: some hold themselves. */
function shown(schema) {
  if (!opens(schema)) return make('span', { class: 'quiet' }, kind(schema));
  const details = make('details', {}, make('summary', {}, kind(schema)));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(...inside(schema));
  });
  return details;
}

function inside(schema) {
  const known = resolve(schema);
  const parts = known.oneOf ?? known.anyOf ?? known.allOf;
  const about = schema.$ref ? text(known.description) : [];
  if (parts) {
    const real = parts.filter((part) => part.type !== 'null');
    const item = (part) => make('li', {}, ...(part.$ref ? [] : text(part.description)), ...(part.$ref ? [shown(part)] : bare(part)));
    return [...about, make('ul', {}, ...real.map(item))];
  }
  return [...about, ...bare(known)];
}

function bare(schema) {
  if (schema.items) return opens(schema.items) ? inside(schema.items) : [make('span', { class: 'quiet' }, kind(schema))];
  if (!schema.properties) return [make('span', { class: 'quiet' }, kind(schema))];
  return [fields(Object.entries(schema.properties).map(([name, field]) => ({
    name, schema: field, description: field.description, optional: !(schema.required ?? []).includes(name),
  })))];
}

function fields(all) {
  return make('dl', {}, ...all.flatMap(({ name, schema, description, optional, note }) => [
    make('dt', {}, make('code', {}, name), ...(optional ? [' ', make('span', { class: 'quiet' }, 'optional')] : [])),
    make('dd', {}, ...text(description), shown(schema), ...(note ? [make('span', { class: 'quiet' }, `, ${note}`)] : [])),
  ]));
}

function body(content) {
  return Object.entries(content ?? {}).flatMap(([media, { schema }]) => [make('code', {}, media), ' ', shown(schema)]);
}

function route(path, method, operation) {
  const id = operation.operationId;
  const secured = (operation.security ?? []).flatMap(Object.keys);
  const part = (title, ...content) => (content.length ? [make('h4', {}, title), ...content] : []);
  const parameters = (operation.parameters ?? []).map((parameter) => ({
    ...parameter, name: parameter.name, optional: !parameter.required,
    note: { header: 'a header', query: 'in the query' }[parameter.in],
  }));
  const answers = Object.entries(operation.responses ?? {}).flatMap(([status, answer]) => [
    make('dt', {}, make('code', {}, status)),
    make('dd', {}, ...text(answer.description), ...body(answer.content)),
  ]);
  return make('section', { id },
    make('h3', {}, make('span', { class: `method ${method}` }, method.toUpperCase()), make('code', {}, path)),
    ...text(operation.summary),
    ...text(operation.description),
    ...(secured.length ? [make('p', { class: 'quiet' }, `Authorization: Bearer, ${[...new Set(secured)].map(who).join(' or ')}.`)] : []),
    ...part('Takes', ...(parameters.length ? [fields(parameters)] : []), ...body(operation.requestBody?.content)),
    ...part('Answers', make('dl', {}, ...answers)));
}

const who = (scheme) => ({ session: "a miner's session", requester: 'an API key where there are some' })[scheme] ?? scheme;

function draw(document_) {
  schemas = document_.components?.schemas ?? {};
  say(one('#title'), `${document_.info.title} ${document_.info.version}`);
  say(one('#description'), document_.info.description ?? '');
  const operations = Object.entries(document_.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  for (const tag of document_.tags) {
    const mine = operations.filter(({ operation }) => operation.tags?.[0] === tag.name);
    if (!mine.length) continue;
    const title = `${tag.name[0].toUpperCase()}${tag.name.slice(1)}`;
    one('main').append(make('h2', {}, `${title}: ${tag.description ?? ''}`), ...mine.map((one) => route(one.path, one.method, one.operation)));
    one('#contents').append(make('h3', {}, title), make('ul', {}, ...mine.map(({ path, method, operation }) =>
      make('li', {}, make('a', { href: `#${operation.operationId}` }, make('span', { class: `method ${method}` }, method.toUpperCase()), path)))));
  }
  one('#search').addEventListener('input', (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const item of document.querySelectorAll('#contents li')) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    for (const section of document.querySelectorAll('main > section')) section.hidden = !section.textContent.toLowerCase().includes(wanted);
  });
  // The sections were not there when the browser looked for the one that the address names.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const answer = await fetch('openapi.json');
  draw(await answer.json());
} catch (error) {
  say(one('#description'), `The document cannot be read: ${error.message}`);
}
