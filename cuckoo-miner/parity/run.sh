#!/usr/bin/env bash
# Compares the Rust pipeline with diffusers on the shapes model and on a random one, and the language models with
# transformers on random ones of each family; prints the errors measured, and leaves the golden files that `make test`
# checks against. Installs torch and diffusers (4 GB) once, outside the tree.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${XDG_CACHE_HOME:-$HOME/.cache}/cuckoo/venv-torch"
golden=tests/golden
shapes=../examples/models/shapes

../.ci/setup infer

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error DIFFUSERS_VERBOSITY=error
mkdir -p "$golden"
# The random pipeline is made once: its weights are part of the tests.
if [ ! -e "$golden/random/model_index.json" ]; then
  "$venv/bin/python" -B parity/random_pipeline.py "$golden/random"
fi
"$venv/bin/python" -B parity/reference.py schedules "$golden/schedules.json"
"$venv/bin/python" -B parity/reference.py pipeline "$golden/random" "$golden/random.safetensors"
"$venv/bin/python" -B parity/reference.py pipeline "$shapes" "$golden/shapes.safetensors"

# As above: models that are there keep their weights.
"$venv/bin/python" -B parity/random_language.py "$golden/language"

cargo test --release --quiet -p cuckoo-miner --test parity --test parity_language -- --nocapture --test-threads 1
