"""Writes small language models with random weights as GGUF files, and what transformers computes with their numbers.

    python random_gguf.py FOLDER [NAME...]   # a folder with a file and a NAME.safetensors of golden values for each model

Files are as llama.cpp's converter writes them: its names, its order of rows for Llama's queries and keys, its norms plus one
for Gemma. The network that is compared with gets the file's numbers, widened by the `gguf` package and put back in
transformers' order here; tokens are those of transformers' own reader of such files.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer, get_gguf_tokenizer

from naming import digest_of
from random_language import (
    BRACKETS,
    HEADERS,
    MARKS,
    TURNS,
    bytes_tokenizer,
    golden,
    pieces_tokenizer,
    randomise,
)

LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# Of each type of K blocks: bytes, where the scale is, where that of the minima is, the middle of the numbers.
BLOCKS = {
    Type.Q2_K: (84, 80, 82, 1.5),
    Type.Q3_K: (110, 108, None, 0),
    Type.Q4_K: (144, 0, 2, 7.5),
    Type.Q5_K: (176, 0, 2, 15.5),
    Type.Q6_K: (210, 208, None, 0),
}


def llama():
    """Grouped heads, Llama 3's stretching as a tensor, byte-level tokens."""
    stretch = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "llama3", "rope_theta": 100.0, **stretch},
    )
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    marks = {"bos": specials[0], "eos": specials[4]}
    types = {"attn_v": Type.F16, "token_embd": Type.F16, "": Type.Q8_0}
    return config, bytes_tokenizer(specials, None), "llama-bpe", marks, HEADERS, types


def qwen2():
    """Biases, all K blocks."""
    config = transformers.Qwen2Config(
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    types = {"attn_q": Type.Q2_K, "attn_k": Type.Q3_K, "attn_v": Type.Q6_K, "ffn_up": Type.Q5_K, "": Type.Q4_K}
    return config, bytes_tokenizer(specials, None), "qwen2", {"eos": specials[2], "padding": specials[0]}, MARKS, types


def pieces():
    """Tied embeddings, pieces with scores, `linear`, the older kinds of blocks."""
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=200,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    )
    types = {"attn_q": Type.Q4_0, "attn_k": Type.Q4_1, "attn_v": Type.Q5_0, "attn_output": Type.Q5_1, "": Type.BF16}
    marks = {"bos": "<s>", "eos": "</s>", "unknown": "<unk>"}
    return config, pieces_tokenizer(["[INST]", "[/INST]"]), None, marks, BRACKETS, types


def qwen3():
    """Normalised heads, `yarn`."""
    config = transformers.Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    marks = {"eos": specials[2], "padding": specials[0]}
    return config, bytes_tokenizer(specials, None), "qwen2", marks, MARKS, {"": Type.Q8_0}


def phi3():
    """Joined weights, rotation of a part of each head, a window, pieces."""
    config = transformers.Phi3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        original_max_position_embeddings=128,
        sliding_window=11,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
    )
    marks = {"bos": "<s>", "eos": "</s>", "unknown": "<unk>"}
    return config, pieces_tokenizer(["[INST]", "[/INST]"]), None, marks, BRACKETS, {"attn_qkv": Type.F16, "": Type.Q8_0}


def gemma():
    """Scaled embeddings, norms plus one, pieces without a space before them."""
    config = transformers.GemmaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=128,
    )
    marks = {"bos": "<s>", "eos": "</s>", "unknown": "<unk>"}
    tokenizer = pieces_tokenizer(["<turn>", "</turn>"])
    return config, tokenizer, None, marks, TURNS, {"token_embd": Type.BF16, "": Type.F32}


FAMILIES = {"llama": llama, "qwen2": qwen2, "pieces": pieces, "qwen3": qwen3, "phi3": phi3, "gemma": gemma}
FILES = {"llama": "model.Q8_0.gguf", "qwen2": "model.Q4_K_M.gguf"}


def stored_name(name):
    """The converter's name of one of transformers' tensors."""
    tops = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, end = name.rsplit(".", 1)
    if stem in tops:
        return f"{tops[stem]}.{end}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{LAYER[rest]}.{end}"


def reorder(values, heads, back=False):
    """Rows of each head, the first half and the second half taken in turns; or `back`."""
    half = values.shape[0] // heads // 2
    parts = (heads, half, 2) if back else (heads, 2, half)
    return values.reshape(*parts, -1).swapaxes(1, 2).reshape(values.shape).copy()


def blocks(shape, kind, spread, generator):
    """Random K blocks whose numbers spread so far around 0."""
    size, scale, least, middle = BLOCKS[kind]
    raw = generator.integers(0, 256, (shape[0] * shape[1] // 256, size), dtype=numpy.uint8)

    def scaled(value):
        for place, number in ((scale, value), (least, value * middle)):
            if place is not None:
                raw[:, place : place + 2] = numpy.frombuffer(numpy.float16(number).tobytes(), numpy.uint8)
        return raw.reshape(shape[0], -1)

    unit = gguf.dequantize(scaled(1.0), kind).std()
    return scaled(spread / unit)


def pick(types, name):
    return next(kind for part, kind in types.items() if part in name)


def tokens(writer, tokenizer, pre, marks, template):
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    added = tokenizer.get_added_tokens_decoder()
    texts = sorted(vocabulary, key=vocabulary.get)
    model = "gpt2" if pre else "llama"
    kinds = []
    for number, text in enumerate(texts):
        byte = model == "llama" and len(text) == 6 and text.startswith("<0x")
        kinds.append(3 if number in added else 6 if byte else 1)
    # The file may tell more tokens apart than have a text.
    for number in range(3):
        texts.append(f"[PAD{len(texts)}]")
        kinds.append(5)
    writer.add_tokenizer_model(model)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    if pre:
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges)
    else:
        ranks = {merge.replace(" ", ""): -float(rank) for rank, merge in reversed(list(enumerate(merges)))}
        writer.add_token_scores([ranks.get(text, -1e4) for text in texts])
    for name, text in marks.items():
        getattr(writer, {"unknown": "add_unk_token_id", "padding": "add_pad_token_id"}.get(name, f"add_{name}_token_id"))(
            vocabulary[text]
        )
    writer.add_add_bos_token("bos" in marks)
    if not pre:
        writer.add_add_space_prefix(writer.arch != "gemma")
    writer.add_chat_template(template)
    return len(texts)


def settings(writer, config):
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if head * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head)
        writer.add_value_length(head)
    if writer.arch in ("llama", "phi3"):
        writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 1)))
    if writer.arch == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_sliding_window(config.sliding_window)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        # By how much each pair is slowed down.
        pace = rope["rope_theta"] ** -(numpy.arange(0, head, 2) / head)
        turns = rope["original_max_position_embeddings"] * pace / (2 * numpy.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = numpy.clip((turns - low) / (high - low), 0, 1)
        writer.add_tensor("rope_freqs.weight", (1 / (kept + (1 - kept) / rope["factor"])).astype(numpy.float32))


@torch.no_grad()
def make(folder, name):
    """Writes a model's file, and gives the network with the very numbers in it; both are the same each time."""
    config, tokenizer, pre, marks, template, types = FAMILIES[name]()
    path = folder / FILES.get(name, "model.gguf")
    arch = config.model_type
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, arch)
    config.vocab_size = tokens(writer, tokenizer, pre, marks, template)
    settings(writer, config)
    config.eos_token_id = tokenizer.token_to_id(marks["eos"])
    config.bos_token_id = None
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    seed = list(FAMILIES).index(name)
    randomise(model, torch.Generator().manual_seed(seed))
    if name in ("pieces", "gemma"):
        # As an output layer they would leave no doubt about the next token.
        model.model.embed_tokens.weight *= 0.5 if name == "pieces" else 0.3
    model.tie_weights()
    generator = numpy.random.default_rng(seed)
    for part, parameter in model.named_parameters():
        values, stored = parameter.numpy(), stored_name(part)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        heads = heads.get(part.split(".")[-2]) if arch == "llama" else None
        added = 1 if arch == "gemma" and "norm" in part else 0
        values = reorder(values, heads) if heads else values + numpy.float32(added)
        kind = Type.F32 if values.ndim == 1 else pick(types, stored)
        if kind in BLOCKS:
            raw = blocks(values.shape, kind, values.std(), generator)
        else:
            raw = gguf.quantize(values, kind)
        writer.add_tensor(stored, raw, raw_dtype=kind)
        kept = gguf.dequantize(raw, kind).reshape(values.shape)
        kept = reorder(kept, heads, back=True) if heads else kept - numpy.float32(added)
        parameter.data = torch.from_numpy(numpy.ascontiguousarray(kept, dtype=numpy.float32))
    model.tie_weights()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, model.eval()


@torch.no_grad()
def agree(path, model):
    """Transformers' own reader of such files must find the same numbers."""
    # It does not know all sizes that these files name, and so is told.
    options = {"gguf_file": path.name, "config": model.config, "dtype": torch.float32}
    other = AutoModelForCausalLM.from_pretrained(path.parent, **options).state_dict()
    for name, values in model.state_dict().items():
        assert torch.allclose(other[name], values, rtol=0, atol=1e-6), f"{path.parent.name}: {name}"


def gemma_tokenizer(path):
    """What transformers makes of the tokens; of the first Gemma's files it reads nothing else."""
    architecture, found, marks = get_gguf_tokenizer(str(path))
    tokenizer, _ = convert_gguf_tokenizer(architecture, found)
    start = marks["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
    )
    names = ("bos_token", "eos_token", "unk_token", "chat_template")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{name: marks[name] for name in names})


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    root = Path(sys.argv[1])
    for name in sys.argv[2:] or FAMILIES:
        path, model = make(root / name, name)
        if name != "gemma":
            agree(path, model)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        else:
            tokenizer = gemma_tokenizer(path)
        golden(name, tokenizer, model, digest_of({"model.gguf": path}), root / f"{name}.safetensors")
