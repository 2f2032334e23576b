// Compiles the contracts and writes what the SDK embeds: {contractName, abi, bytecode} for each.
// With --check, fails when the committed files differ from what the sources give.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forge } from './forge.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const check = process.argv.includes('--check');

const timelock = 'node_modules/@openzeppelin/contracts/governance/TimelockController.sol';
const names = ['Staking', 'Payments', 'DisputeCourt', 'EquivocationVerifier', 'UnpaidVoucherVerifier', 'Faucet', 'TimelockController'];
const status = forge(['build', 'cuckoo-core/contracts/src', timelock]);
if (status !== 0) process.exit(status);
mkdirSync(join(root, 'artifacts'), { recursive: true });

let drifted = false;
for (const contractName of names) {
  const built = JSON.parse(readFileSync(join(root, 'out', `${contractName}.sol`, `${contractName}.json`), 'utf8'));
  const artifact = { contractName, abi: built.abi, bytecode: built.bytecode.object };
  const text = JSON.stringify(artifact, null, 2) + '\n';
  const path = join(root, 'artifacts', `${contractName}.json`);
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
    console.error(`artifacts/${contractName}.json differs from the sources: run \`npm run contracts:build\` and commit`);
  }
}
process.exit(drifted ? 1 : 0);
