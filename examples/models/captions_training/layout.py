"""The parts of the captions model, and the folder of sentence-transformers they are saved in."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel

import captions

VOCABULARY = 400
POSITIONS = 64
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float16",
}


def build_tokenizer() -> Tokenizer:
    """WordPieces learned from the grammar's own sentences, with BERT's way of cutting words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    alphabet = sorted("abcdefghijklmnopqrstuvwxyz0123456789-.,:;?!'\"")
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    rng = Random("tokenizer")
    texts = [captions.query(rng, held=False)[1] for _ in range(20_000)]
    tokenizer.train_from_iterator(texts, trainer)
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.enable_truncation(POSITIONS)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def build_model() -> BertModel:
    kept = {key: value for key, value in CONFIG.items() if key not in ("architectures", "torch_dtype")}
    return BertModel(BertConfig(**kept), add_pooling_layer=False)


class Encoder:
    """Sentences to rows of length 1: the mean over the tokens of the last layer, normalised."""

    def __init__(self, tokenizer: Tokenizer, model: BertModel) -> None:
        self.tokenizer, self.model = tokenizer, model

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        model = build_model()
        model.load_state_dict(load_file(folder / "model.safetensors"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(POSITIONS)
        tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
        return cls(tokenizer, model.float().eval())

    def forward(self, texts: list[str]) -> torch.Tensor:
        encoded = self.tokenizer.encode_batch(texts)
        ids = torch.tensor([text.ids for text in encoded])
        mask = torch.tensor([text.attention_mask for text in encoded])
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return F.normalize((states * weights).sum(1) / weights.sum(1), dim=1)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        return torch.cat([self.forward(texts[start : start + 256]) for start in range(0, len(texts), 256)])


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export(folder: Path, tokenizer: Tokenizer, weights: dict[str, torch.Tensor]) -> int:
    """Writes the folder; returns its size in bytes."""
    _write(folder / "config.json", CONFIG)
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    _write(
        folder / "modules.json",
        [
            {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for idx, (kind, path) in enumerate(kinds)
        ],
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": POSITIONS, "do_lower_case": False})
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": CONFIG["hidden_size"], "pooling_mode_cls_token": False,
         "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False},
    )  # fmt: skip
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": POSITIONS,
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        },
    )  # fmt: skip
    halves = {name: value.half().contiguous() for name, value in weights.items() if value.is_floating_point()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    plain.save(str(folder / "tokenizer.json"))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
