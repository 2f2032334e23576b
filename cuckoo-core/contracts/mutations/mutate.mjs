// Seeds each bug of mutants.mjs in a copy of the contracts and runs the tests: one that goes unnoticed is a missing test.
// Prints a table, and writes it to README.md when all were run. Exits 1 when a bug survives, does not compile or no longer
// matches the sources.
//
//   node mutate.mjs           all of them, one after the other
//   node mutate.mjs --check   whether each still matches the sources, without running anything
//   node mutate.mjs Votes     those in files or with descriptions that contain the word
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { mutants } from './mutants.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const contracts = dirname(here);
const inRepository = join('cuckoo-core', 'contracts');

// Behaviour alone is checked: fewer runs than the suite's own, no gas figures, and code that is quicker to compile.
const settings = {
  FOUNDRY_FUZZ_RUNS: '64',
  FOUNDRY_INVARIANT_RUNS: '30',
  FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT: '0',
  FOUNDRY_GAS_SNAPSHOT_CHECK: 'false',
  FOUNDRY_GAS_SNAPSHOT_EMIT: 'false',
  FOUNDRY_OPTIMIZER: 'false',
  // What a bug leaves unused is no matter.
  FOUNDRY_DENY: 'never',
  NO_COLOR: '1',
};

function source({ file }) {
  return join('src', `${file}.sol`);
}

/** The bug in the source's text; throws unless its snippet occurs exactly once. */
function seeded(mutant) {
  const text = readFileSync(join(contracts, source(mutant)), 'utf8');
  const occurs = text.split(mutant.from).length - 1;
  if (occurs !== 1) throw new Error(`${mutant.file}: "${mutant.bug}": its snippet occurs ${occurs} times, not once`);
  return text.replace(mutant.from, () => mutant.to);
}

/** A copy of all that forge reads, in a folder of its own. */
async function copyToSpoil() {
  const root = mkdtempSync(join(tmpdir(), 'cuckoo-mutations-'));
  const copy = join(root, inRepository);
  mkdirSync(copy, { recursive: true });
  for (const part of ['src', 'test', 'snapshots', 'foundry.toml', 'forge.mjs', 'solc.js']) {
    cpSync(join(contracts, part), join(copy, part), { recursive: true });
  }
  symlinkSync(join(contracts, '../../node_modules'), join(root, 'node_modules'));
  const { spawnForge } = await import(pathToFileURL(join(copy, 'forge.mjs')));
  return { root, copy, spawnForge };
}

/**
 * Runs forge's tests in a copy, all or those of some suites; gives whether they passed and which failed. Throws when
 * they could not run, or not all of them: see forge.mjs.
 */
function test({ spawnForge }, suites) {
  const path = suites ? ['--match-path', `${inRepository}/test/{${suites.join(',')}}.t.sol`] : ['--force'];
  const streams = { stdio: 'pipe', encoding: 'utf8', maxBuffer: 1 << 28 };
  const { stdout, stderr, status } = spawnForge(['test', '--fail-fast', ...path], { env: settings, ...streams });
  const suite = /^Ran \d+ tests? for .*:(\w+)$/;
  const failure = /^\[FAIL.*\] (\w+)\(|^ *(invariant_\w+)\(\) \(runs/;
  const [ran, failed] = [new Set(), new Set()];
  let name = '';
  for (const line of stdout.split('\n')) {
    name = line.match(suite)?.[1] ?? name;
    ran.add(name);
    const found = line.startsWith('[PASS]') ? null : line.match(failure);
    if (found) failed.add(`${name}.${found[1] ?? found[2]}`);
    // After the suites forge lists their failures again.
    if (line.startsWith('Ran') && line.includes('test suite')) break;
  }
  ran.delete('');
  if (status !== 0 && failed.size === 0) throw new Error(`forge failed without a failed test:\n${stdout}\n${stderr}`);
  const expected = suites?.length ?? suiteCount();
  if (status === 0 && ran.size < expected) throw new Error(`only ${ran.size} of ${expected} suites ran`);
  return { passed: status === 0, failed: [...failed] };
}

function suiteCount() {
  return readdirSync(join(contracts, 'test')).filter((name) => name.endsWith('.t.sol')).length;
}

/** The first test that fails, looking where it is likely to be first. Nothing when all pass, or the bug is no program. */
function firstToNotice(place, { bug, tests }) {
  try {
    const likely = test(place, tests);
    const { failed } = likely.passed ? test(place) : likely;
    return failed[0];
  } catch (error) {
    console.error(`"${bug}": ${error.message}`);
    return undefined;
  }
}

async function run(chosen) {
  const place = await copyToSpoil();
  const rows = [];
  let survivors = 0;
  try {
    const sound = test(place);
    if (!sound.passed) throw new Error(`the tests fail without any bug: ${sound.failed.join(', ')}`);
    for (const [index, mutant] of chosen.entries()) {
      const path = join(place.copy, source(mutant));
      writeFileSync(path, seeded(mutant));
      const killer = firstToNotice(place, mutant);
      cpSync(join(contracts, source(mutant)), path);
      if (!killer) ++survivors;
      rows.push(`| ${index + 1} | \`${mutant.file}\` | ${mutant.bug} | ${killer ? `\`${killer}\`` : '**nobody**'} |`);
      console.log(rows.at(-1));
    }
  } finally {
    rmSync(place.root, { recursive: true, force: true });
  }
  return { rows, survivors };
}

function readme(rows) {
  return `# Seeded bugs
Would the tests notice? Each of these ${rows.length} bugs was put into a copy of the contracts, one at a time, and the tests
were run until one failed. \`make mutations\` does it again and writes this table; a bug that survives fails it.

| | contract | bug | first noticed by |
|---:|---|---|---|
${rows.join('\n')}
`;
}

const [word] = process.argv.slice(2);
try {
  for (const mutant of mutants) seeded(mutant);
  if (word !== '--check') {
    const chosen = mutants.filter(({ file, bug }) => !word || `${file} ${bug}`.includes(word));
    if (chosen.length === 0) throw new Error(`no bug mentions "${word}"`);
    const { rows, survivors } = await run(chosen);
    if (!word) writeFileSync(join(here, 'README.md'), readme(rows));
    console.log(`${chosen.length - survivors} of ${chosen.length} bugs were noticed`);
    if (survivors !== 0) process.exitCode = 1;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
