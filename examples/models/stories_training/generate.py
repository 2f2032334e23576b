"""Answers the exam with transformers, greedily, from the exported folder.

    python generate.py ../stories answers.json
    python generate.py ../stories answers.json --every 20 --dtype bfloat16

Writes what score.py reads: a list of {"case", "answers"}, the answers in the order of
the case's turns, each given after the model's own earlier ones. Any other program
that writes the same can be scored alike; `score.py --cases` prints the questions.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import score

NEW_TOKENS = 128
"""More than the longest right answer."""


@torch.inference_mode()
def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: list[score.Case], batch: int = 64
) -> list[list[str]]:
    """The model's answers to every turn of every case."""
    tokenizer.padding_side = "left"
    answers: list[list[str]] = [[] for _ in cases]
    for turn in range(max(len(case.turns) for case in cases)):
        waiting = [index for index, case in enumerate(cases) if len(case.turns) > turn]
        prompts = {
            index: cases[index].plain
            or tokenizer.apply_chat_template(
                cases[index].messages(answers[index]), tokenize=False, add_generation_prompt=True
            )
            for index in waiting
        }
        # Alike lengths together: less padding.
        waiting.sort(key=lambda index: len(prompts[index]))
        for first in range(0, len(waiting), batch):
            part = waiting[first : first + batch]
            texts = [prompts[index] for index in part]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            inputs.pop("token_type_ids", None)
            written = model.generate(
                **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, max_length=None,
                eos_token_id=[tokenizer.eos_token_id, tokenizer.bos_token_id], pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            texts = tokenizer.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for index, text in zip(part, texts):
                answers[index].append(text)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take one case in so many")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.dtype), local_files_only=True
    )
    cases, began = score.cases()[:: options.every], time.monotonic()
    answers = answer(model.eval(), tokenizer, cases, options.batch)
    entries = [{"case": case.name, "answers": texts} for case, texts in zip(cases, answers)]
    options.out.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    turns, seconds = sum(map(len, answers)), time.monotonic() - began
    print(f"{len(cases)} conversations, {turns} answers, {options.dtype}: {seconds:.0f} s")


if __name__ == "__main__":
    main()
