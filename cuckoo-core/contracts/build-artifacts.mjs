// Compiles the contracts and writes what the SDK embeds, {contractName, abi, bytecode} for each, and in a folder beside it
// the same of what its tests put on a real chain.
// With --check, fails when the committed files differ from what the sources give.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forge } from './forge.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const check = process.argv.includes('--check');

const timelock = 'node_modules/@openzeppelin/contracts/governance/TimelockController.sol';
// Folders of its own, which no test run touches.
const out = join(root, 'out/artifacts');
const folders = ['--out', out, '--cache-path', join(root, 'cache/artifacts')];
const sources = ['cuckoo-core/contracts/src', 'cuckoo-core/contracts/test/live', timelock];
const status = forge(['build', ...folders, ...sources]);
if (status !== 0) process.exit(status);
mkdirSync(join(root, 'artifacts/test'), { recursive: true });

// Source file and contract, and the folder of the artifact.
const contracts = [
  ['Staking', 'Staking', 'artifacts'],
  ['Payments', 'Payments', 'artifacts'],
  ['DisputeCourt', 'DisputeCourt', 'artifacts'],
  ['EquivocationVerifier', 'EquivocationVerifier', 'artifacts'],
  ['UnpaidVoucherVerifier', 'UnpaidVoucherVerifier', 'artifacts'],
  ['Faucet', 'Faucet', 'artifacts'],
  ['TimelockController', 'TimelockController', 'artifacts'],
  ['Crowd', 'Crowd', 'artifacts/test'],
  ['Legacy', 'LegacyStakes', 'artifacts/test'],
  ['Legacy', 'LegacyVotes', 'artifacts/test'],
];

let drifted = false;
for (const [source, contractName, folder] of contracts) {
  const built = JSON.parse(readFileSync(join(out, `${source}.sol`, `${contractName}.json`), 'utf8'));
  const artifact = { contractName, abi: built.abi, bytecode: built.bytecode.object };
  const text = JSON.stringify(artifact, null, 2) + '\n';
  const path = join(root, folder, `${contractName}.json`);
  if (!check) {
    writeFileSync(path, text);
    console.log(`${contractName}: ${(artifact.bytecode.length - 2) / 2} bytes of creation code`);
    continue;
  }
  let committed = '';
  try {
    committed = readFileSync(path, 'utf8');
  } catch {
    // A missing file has drifted too.
  }
  if (committed !== text) {
    drifted = true;
    console.error(`${folder}/${contractName}.json differs from the sources: run \`npm run contracts:build\` and commit`);
  }
}
process.exit(drifted ? 1 : 0);
