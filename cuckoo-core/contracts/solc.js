#!/usr/bin/env node
// Lets forge drive the solc of package.json, a WebAssembly build: forge asks for the version, or pipes standard JSON.
const solc = require('solc');
const fs = require('fs');

if (process.argv.includes('--version')) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else if (process.argv.includes('--standard-json')) {
  fs.writeSync(1, solc.compile(fs.readFileSync(0, 'utf8')));
} else {
  console.error('solc.js: only --version and --standard-json are supported');
  process.exit(1);
}
