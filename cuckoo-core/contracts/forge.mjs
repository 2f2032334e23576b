// Runs forge from the repository's root with this folder's settings, and exits as forge does: the launcher that npm
// installs beside it exits 0 whatever happens.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** Runs forge with `args`; gives its exit status. */
export function forge(args) {
  const platform = `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`;
  const binary = createRequire(import.meta.url).resolve(`@foundry-rs/forge-${platform}/bin/forge`);
  const env = { ...process.env, FOUNDRY_CONFIG: join(here, 'foundry.toml'), FOUNDRY_DISABLE_NIGHTLY_WARNING: '1' };
  const { status, error } = spawnSync(binary, args, { cwd: join(here, '../..'), env, stdio: 'inherit' });
  if (error) throw error;
  return status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(forge(process.argv.slice(2)));
