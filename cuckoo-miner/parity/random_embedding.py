"""Writes small sentence encoders with random weights, one for each family, and what sentence-transformers makes of texts.

    python random_embedding.py FOLDER [NAME...]   # a folder and a NAME.safetensors of golden values for each model

Sizes are odd on purpose, and so is the mix of layouts and steps: each model has some that no other has.
"""

import json
import shutil
import sys
from pathlib import Path

import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from naming import model_hash

CORPUS = [
    "the cuckoo sings at noon and twelve small birds answer from the hedge",
    "the bird and the egg and the nest, once there was a small bird that could not sing",
    "Two and two are four; 12 and 13 are 25. Who sang there? I'm here, you're there!",
]
TEXTS = [
    "The cuckoo sings at noon.",
    "",
    " leading and trailing ",
    "naïve café 日本 🦜🦜 \u200d end",
    "tabs\tand\n\nnew lines   and    runs",
    "the bird and the egg and the nest " * 9,
    "a",
    "THE NEST",
    "special [PAD] and <pad> and </s> within",
    "12 and 13 are 25, I'm sure: you're there!",
    "control \x00\x07 characters \ufeff and \u00a0 spaces",
    "a small bird " * 3,
]


def framed(tokenizer, begin, end):
    """Puts the two marks around each text."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in (begin, end)],
    )
    return tokenizer


def words_tokenizer(marks, unknown, begin, end, lower):
    """Pieces of words, as BERT has them; the special tokens come first."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=140, special_tokens=marks, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(tokenizer, begin, end)


def bytes_tokenizer(marks):
    """Byte-level pairs, as RoBERTa has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 40, initial_alphabet=alphabet, special_tokens=marks, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(tokenizer, "<s>", "</s>")


def pieces_tokenizer(marks):
    """The likeliest pieces, as XLM-RoBERTa has them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=marks, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(tokenizer, "<s>", "</s>")


# Padding, unknown, begin, end, mask.
BERT_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_MARKS = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]


def fast(tokenizer, marks, **options):
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], marks))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **options)


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def randomise(model, generator):
    """Weights that keep activations alive and attention far from even."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            sharp = any(part in name for part in ("query", "key", "q_lin", "k_lin", "attn.q", "attn.k"))
            gain = 2.0 if sharp else 1.0
            values *= 0.7 if "embeddings" in name or "bias" in name else gain / parameter.shape[1] ** 0.5
        else:
            values = values * 0.2 + (1.0 if "norm.weight" in name.lower() else 0.0)
        parameter.data = values


def classic(folder, pooling, steps, sentences, prompts=None):
    """The files that sentence-transformers wrote beside an encoder until its fifth release."""
    models_ = "sentence_transformers.models."
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *steps]
    write_json(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": models_ + kind} for i, (kind, path) in enumerate(modules)],
    )
    write_json(folder / "1_Pooling/config.json", pooling)
    write_json(folder / "sentence_bert_config.json", sentences)
    if prompts:
        write_json(folder / "config_sentence_transformers.json", prompts)


def bert(folder, generator):
    """The layout of most published models: a limit below that of the positions, vectors of length 1."""
    tokenizer = words_tokenizer(BERT_MARKS, "[UNK]", "[CLS]", "[SEP]", lower=True)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size() + 3,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=44,
        max_position_embeddings=90,
    )
    model = transformers.BertModel(config)
    randomise(model, generator)
    model.half().save_pretrained(folder)
    fast(tokenizer, BERT_MARKS, model_max_length=80).save_pretrained(folder)
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    sentences = {"max_seq_length": 21, "do_lower_case": False}
    classic(folder, pooling, [("Normalize", "2_Normalize")], sentences)


def distilbert(folder, generator):
    """As today's release saves it: first tokens and largest numbers side by side, through a dense layer."""
    tokenizer = words_tokenizer(BERT_MARKS, "[UNK]", "[CLS]", "[SEP]", lower=False)
    config = transformers.DistilBertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        dim=30,
        n_layers=2,
        n_heads=5,
        hidden_dim=50,
        max_position_embeddings=70,
        activation="relu",
    )
    model = transformers.DistilBertModel(config)
    randomise(model, generator)
    scratch = folder.with_suffix(".scratch")
    model.half().save_pretrained(scratch)
    fast(tokenizer, BERT_MARKS).save_pretrained(scratch)
    encoder = Transformer(str(scratch), model_kwargs={"dtype": torch.float16})
    dense = Dense(60, 17)
    randomise(dense, generator)
    modules = [encoder, Pooling(30, pooling_mode=("cls", "max")), dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    shutil.rmtree(scratch)


def roberta(folder, generator):
    """An encoder alone, with the output layer it was trained with; positions that padding tokens are no part of."""
    tokenizer = bytes_tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    config = transformers.RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=28,
        num_hidden_layers=2,
        num_attention_heads=7,
        intermediate_size=36,
        max_position_embeddings=66,
        type_vocab_size=1,
        hidden_act="gelu_new",
        layer_norm_eps=1e-5,
        pad_token_id=1,
    )
    model = transformers.RobertaForMaskedLM(config)
    randomise(model, generator)
    model.half().save_pretrained(folder)
    fast(tokenizer, ROBERTA_MARKS, model_max_length=64).save_pretrained(folder)


def xlm_roberta(folder, generator):
    """Three ways to pool side by side, a prompt before each text, weights in parts."""
    tokenizer = pieces_tokenizer(["<s>", "<unk>", "</s>", "<pad>", "<mask>"])
    config = transformers.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=30,
        max_position_embeddings=200,
        type_vocab_size=1,
        pad_token_id=3,
    )
    model = transformers.XLMRobertaModel(config)
    randomise(model, generator)
    model.bfloat16().save_pretrained(folder, max_shard_size="16KB")
    fast(tokenizer, ROBERTA_MARKS, model_max_length=512).save_pretrained(folder)
    pooling = {
        "word_embedding_dimension": 20,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": True,
        "pooling_mode_weightedmean_tokens": True,
        "pooling_mode_lasttoken": True,
        "include_prompt": True,
    }
    prompts = {"prompts": {"query": "the query: ", "passage": ""}, "default_prompt_name": "query"}
    classic(folder, pooling, [], {"max_seq_length": 60, "do_lower_case": False}, prompts)


def mpnet(folder, generator):
    """Attention shifted by distances, a tokenizer that is told to lower its texts, texts cut from the left."""
    marks = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    tokenizer = words_tokenizer(marks, "[UNK]", "<s>", "</s>", lower=False)
    config = transformers.MPNetConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=160,
    )
    model = transformers.MPNetModel(config)
    randomise(model, generator)
    model.half().save_pretrained(folder)
    fast(tokenizer, [marks[i] for i in (1, 3, 0, 2, 4)], truncation_side="left").save_pretrained(folder)
    pooling = {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}
    sentences = {"max_seq_length": 70, "do_lower_case": True}
    classic(folder, pooling, [("Normalize", "2_Normalize")], sentences)


FAMILIES = {
    "bert": bert,
    "distilbert": distilbert,
    "roberta": roberta,
    "xlm_roberta": xlm_roberta,
    "mpnet": mpnet,
}
# What sentence-transformers writes beside what it reads.
EXTRAS = ["README.md", "vocab.txt", ".gitattributes"]


def write(folder, name):
    torch.manual_seed(0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    FAMILIES[name](folder, torch.Generator().manual_seed(list(FAMILIES).index(name)))
    for extra in EXTRAS:
        (folder / extra).unlink(missing_ok=True)


@torch.no_grad()
def golden(folder, out):
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs=options)
    # In batches of four, so that most are padded.
    vectors = torch.tensor(model.encode(TEXTS, batch_size=4))
    prompt = model.prompts.get(model.default_prompt_name, "") if model.default_prompt_name else ""
    tokens = [model.tokenizer(prompt + text, truncation=True)["input_ids"] for text in TEXTS]
    values = {
        "sentence_transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "model_hash": model_hash(folder),
        "longest": model.max_seq_length,
        "texts": [{"text": text, "tokens": ids} for text, ids in zip(TEXTS, tokens)],
    }
    metadata = {"golden": json.dumps(values, ensure_ascii=False)}
    save_file({"vectors": vectors.float().contiguous()}, out, metadata=metadata)
    lengths = [len(ids) for ids in tokens]
    print(f"{folder.name}: {tuple(vectors.shape)}, {lengths} tokens, std {float(vectors.std()):.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    for family in sys.argv[2:] or FAMILIES:
        if not (root / family / "config.json").exists():
            write(root / family, family)
        golden(root / family, root / f"{family}.safetensors")
