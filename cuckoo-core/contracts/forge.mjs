// Runs forge from the repository's root with this folder's settings, and exits as forge does: the launcher that npm
// installs beside it exits 0 whatever happens.
//
// Tests are built whole before they are run. When forge itself compiles for a run that is narrowed to some tests, it notes
// all others as compiled though they have no code, and from then on passes over them without a word.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** Runs forge with `args` and, of the options of `spawnSync`, more variables and other streams; gives what that gives. */
export function spawnForge(args, { env = {}, ...streams } = {}) {
  const platform = `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`;
  const binary = createRequire(import.meta.url).resolve(`@foundry-rs/forge-${platform}/bin/forge`);
  const result = spawnSync(binary, args, {
    cwd: join(here, '../..'),
    env: {
      ...process.env,
      FOUNDRY_CONFIG: join(here, 'foundry.toml'),
      FOUNDRY_DISABLE_NIGHTLY_WARNING: '1',
      ...env,
    },
    stdio: 'inherit',
    ...streams,
  });
  if (result.error) throw result.error;
  return result;
}

/** Runs forge with `args`; gives its exit status. */
export function forge(args) {
  return spawnForge(args).status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const built = args[0] === 'test' ? forge(['build']) : 0;
  process.exit(built === 0 ? forge(args) : built);
}
