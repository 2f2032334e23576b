"""The parts of the stories model and the folder they are saved in.

The folder is that of a published Llama checkpoint: `config.json` with the keys that
every reader of Llama models knows, f16 safetensors, a fast tokenizer and its chat
template. Recent transformers releases rename some keys and move the template to a
file of its own; they read this layout too, so it is written by hand here.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from stories import Conversation, converse

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 1024
POSITIONS = 512
"""Tokens of a conversation and of a training row."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float16",
}


def build_tokenizer() -> Tokenizer:
    """Byte-level pairs learned from the grammar's own texts; every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in (END_OF_TEXT, START, END)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = Random("tokenizer")
    texts = []
    for _ in range(20_000):
        conversation = converse(rng)
        texts += [conversation.plain] if conversation.plain else []
        for message in conversation.messages():
            texts.append(f"{message['role']}\n{message['content']}")
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Encoder:
    """Turns conversations into token ids, as the chat template writes them, and marks what to learn."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end_of_text, self.start, self.end = (tokenizer.token_to_id(t) for t in (END_OF_TEXT, START, END))
        self.line = tokenizer.encode("\n").ids

    def encode(self, conversation: Conversation, headed: bool) -> tuple[list[int], list[bool]]:
        """Ids, and for each whether it is to be predicted; headed: a plain text starts with the end of another."""
        if conversation.plain is not None:
            ids = [self.end_of_text] * headed + self.tokenizer.encode(conversation.plain).ids + [self.end_of_text]
            return ids, [True] * len(ids)
        messages = conversation.messages()
        roles = self.tokenizer.encode_batch([f"{message['role']}\n" for message in messages])
        contents = self.tokenizer.encode_batch([message["content"] for message in messages])
        ids: list[int] = []
        learned: list[bool] = []
        for message, role, content in zip(messages, roles, contents):
            head, body = [self.start, *role.ids], [*content.ids, self.end]
            ids += head + body + self.line
            learned += [False] * len(head) + [message["role"] == "assistant"] * len(body) + [False] * len(self.line)
        return ids, learned


def build_model() -> LlamaForCausalLM:
    config = LlamaConfig(**{key: value for key, value in CONFIG.items() if key not in ("architectures", "torch_dtype")})
    return LlamaForCausalLM(config)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export(folder: Path, tokenizer: Tokenizer, weights: dict[str, torch.Tensor]) -> int:
    """Writes the folder; returns its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", CONFIG)
    generation = {key: CONFIG[key] for key in ("bos_token_id", "pad_token_id")}
    _write(
        folder / "generation_config.json",
        {**generation, "eos_token_id": [2, 0], "do_sample": False, "max_length": POSITIONS},
    )
    # The head is the embedding; published checkpoints with tied weights hold it once.
    halves = {name: value.half().contiguous() for name, value in weights.items() if name != "lm_head.weight"}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token, "special": True, "normalized": False,
            "lstrip": False, "rstrip": False, "single_word": False,
        }
        for token in (END_OF_TEXT, START, END)
    }  # fmt: skip
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": added,
            "bos_token": END_OF_TEXT,
            "eos_token": END,
            "pad_token": END_OF_TEXT,
            "additional_special_tokens": [START, END],
            "add_bos_token": False,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": POSITIONS,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    special = {"bos_token": END_OF_TEXT, "eos_token": END, "pad_token": END_OF_TEXT}
    _write(folder / "special_tokens_map.json", {**special, "additional_special_tokens": [START, END]})
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
