"""What sentence-transformers makes of two hundred texts with the real all-MiniLM-L6-v2.

    python minilm.py FOLDER OUT.safetensors
"""

import json
import sys
from pathlib import Path

import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from naming import model_hash
from sentences import SENTENCES

# Those of its files that a run depends on.
READ = [
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def main(folder, out):
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    vectors = torch.tensor(model.encode(SENTENCES, batch_size=32))
    counts = [len(model.tokenizer(text, truncation=True)["input_ids"]) for text in SENTENCES]
    values = {
        "sentence_transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "model_hash": model_hash(folder, READ),
        "texts": SENTENCES,
        "tokens": counts,
    }
    halves = vectors.half()
    # What is left of a vector's direction in half precision: nearer to 1 than the tests ask for.
    kept = torch.nn.functional.cosine_similarity(vectors, halves.float()).min()
    save_file({"vectors": halves.contiguous()}, out, metadata={"golden": json.dumps(values)})
    print(f"{tuple(vectors.shape)}, {max(counts)} tokens at most, cosine of half precision {float(kept):.8f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
