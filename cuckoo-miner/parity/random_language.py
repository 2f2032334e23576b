"""Writes small language models with random weights, one for each family, and what transformers computes with them.

    python random_language.py FOLDER [NAME...]   # a folder and a NAME.safetensors of golden values for each model

Sizes are odd on purpose: head counts, widths and windows differ from model to model, so that a mix-up shows.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from naming import model_hash

STEPS = 64
PROMPT = "The cuckoo sings at noon, and 12 small birds answer: cuckoo!"
TEXT = [
    PROMPT,
    "the bird and the egg and the nest",
    "Once there was a small bird that could not sing.",
    "I'm here, you're there; we'll sing 3 songs.",
]
TEXTS = [
    PROMPT,
    "",
    " leading and trailing ",
    "naïve café 日本 🦜🦜 \u200d end",
    "tabs\tand\n\nnew lines   and    runs",
    "1234567 I'M don't  ",
]
CONVERSATIONS = [
    [{"role": "user", "content": "Two and two?"}],
    [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": " Hi \n"}],
    [
        {"role": "system", "content": "You are a bird."},
        {"role": "user", "content": "Sing 日本!"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\ncuckoo"},
        {"role": "user", "content": "Again"},
    ],
    [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": "No"}],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
]

# In the manner of the templates that the families come with.
HEADERS = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined and false %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2025" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'system'] %}
        {{- raise_exception("unknown role") }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if tools is not none and tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
BRACKETS = """\
{% if messages[0]['role'] == 'system' %}
  {% set offset = 1 %}
{% else %}
  {% set offset = 0 %}
{% endif %}
{{ bos_token }}
{% for message in messages %}
  {% if (message['role'] == 'user') != (loop.index0 % 2 == offset) and loop.index0 >= offset %}
    {{ raise_exception('Roles must take turns: ' ~ message['role']) }}
  {% endif %}
  {% if message['role'] == 'user' %}
    {{ '[INST] ' + (messages[0]['content'].strip() + '\\n\\n' if loop.index0 == 1 and offset == 1 else '') + message['content'].strip() + ' [/INST]' }}
  {% elif message['role'] == 'assistant' %}
    {{ ' ' + message['content'] + eos_token }}
  {% endif %}
{% endfor %}
"""
MARKS = """\
{%- macro turn(role, content) -%}
{{- '<|im_start|>' ~ role ~ '\\n' ~ content ~ '<|im_end|>\\n' -}}
{%- endmacro -%}
{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- if messages[0].role != 'system' %}{{ turn('system', 'You are a helpful bird.') }}{% endif %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" %}
        {%- set ns.seen = true %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- turn(message.role, content) }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""
TURNS = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}\
{% set role = message['role'] %}{% endif %}{{ '<turn>' + role.upper() + '\\n' + message['content'] | trim + '</turn>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{'<turn>MODEL\\n'}}{% endif %}\
"""


def bytes_tokenizer(specials, start):
    """Byte-level pairs, split as Llama 3 and Qwen do; `start` begins every text."""
    tokenizer = Tokenizer(models.BPE())
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 24, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens(specials)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
    return tokenizer


def pieces_tokenizer(specials):
    """Pieces with `▁` for spaces and bytes to fall back on, as Llama 2, Mistral and Gemma have them."""
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=70, special_tokens=["<unk>"], show_progress=False)
    trained.train_from_iterator(TEXT, trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = [*first, *(piece for piece in model["vocab"] if piece != "<unk>")]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", *specials])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def llama():
    config = transformers.LlamaConfig(
        hidden_size=24,
        intermediate_size=44,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 100.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = bytes_tokenizer(specials, specials[0])
    return config, tokenizer, {"bos_token": specials[0], "eos_token": specials[4]}, HEADERS


def mistral():
    config = transformers.MistralConfig(
        hidden_size=30,
        intermediate_size=50,
        num_hidden_layers=2,
        num_attention_heads=5,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=200,
        sliding_window=7,
        rms_norm_eps=1e-5,
    )
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return config, pieces_tokenizer(["[INST]", "[/INST]"]), marks, BRACKETS


def qwen2():
    config = transformers.Qwen2Config(
        hidden_size=24,
        intermediate_size=36,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=9,
        max_window_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return config, bytes_tokenizer(marks, None), {"eos_token": marks[2], "pad_token": marks[0]}, MARKS


def qwen3():
    config = transformers.Qwen3Config(
        hidden_size=20,
        intermediate_size=36,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        max_position_embeddings=128,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return config, bytes_tokenizer(marks, None), {"eos_token": marks[2], "pad_token": marks[0]}, MARKS


def phi3():
    config = transformers.Phi3Config(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=128,
        original_max_position_embeddings=128,
        sliding_window=11,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return config, bytes_tokenizer(marks, None), {"eos_token": marks[2], "pad_token": marks[0]}, MARKS


def gemma():
    config = transformers.GemmaConfig(
        hidden_size=20,
        intermediate_size=30,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=12,
        max_position_embeddings=128,
    )
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return config, pieces_tokenizer(["<turn>", "</turn>"]), marks, TURNS


FAMILIES = {
    "llama": (llama, torch.bfloat16),
    "mistral": (mistral, torch.float16),
    "qwen2": (qwen2, torch.float16),
    "qwen3": (qwen3, torch.bfloat16),
    "phi3": (phi3, torch.float16),
    "gemma": (gemma, torch.float32),
}


def randomise(model, generator):
    """Weights that keep activations alive and the likeliest token well ahead of the next."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            gain = 2.0 if any(part in name for part in ("q_proj", "k_proj", "qkv_proj", "lm_head")) else 1.0
            # Gemma multiplies its embeddings by the square root of their width.
            embedding = 0.2 if "Gemma" in type(model).__name__ else 0.7
            values *= embedding if "embed" in name else gain / parameter.shape[1] ** 0.5
        else:
            centre = 1.0 if "norm" in name and "Gemma" not in type(model).__name__ else 0.0
            values = values * 0.2 + centre
        parameter.data = values


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write(folder, name):
    make, dtype = FAMILIES[name]
    config, tokenizer, marks, template = make()
    config.vocab_size = tokenizer.get_vocab_size(with_added_tokens=True) + 3
    eos = tokenizer.token_to_id(marks["eos_token"])
    config.eos_token_id, config.bos_token_id = eos, tokenizer.token_to_id(marks.get("bos_token", marks["eos_token"]))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    randomise(model, torch.Generator().manual_seed(list(FAMILIES).index(name)))
    model.tie_weights()
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, max_shard_size="24KB" if name == "llama" else "1GB")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **marks)
    fast.chat_template = template
    fast.save_pretrained(folder)
    if name in ("qwen2", "mistral"):
        # The older layout: the template inside of the tokenizer's settings, rotary settings beside the others.
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        text = (folder / "chat_template.jinja").read_text()
        settings["chat_template"] = [{"name": "default", "template": text}] if name == "qwen2" else text
        write_json(path, settings)
        (folder / "chat_template.jinja").unlink()
        path = folder / "config.json"
        settings = json.loads(path.read_text())
        settings["rope_theta"] = settings.pop("rope_parameters")["rope_theta"]
        settings["torch_dtype"] = settings.pop("dtype")
        settings.pop("layer_types", None)
        write_json(path, settings)
    generation = {"eos_token_id": [eos], "do_sample": True, "temperature": 0.8, "top_k": 30, "top_p": 0.9}
    if name == "qwen2":
        generation["repetition_penalty"] = 1.1
    if name != "gemma":
        write_json(folder / "generation_config.json", generation)
    else:
        (folder / "generation_config.json").unlink(missing_ok=True)


def render(tokenizer, conversation):
    options = {"add_generation_prompt": True, "tokenize": False}
    try:
        text = tokenizer.apply_chat_template(conversation, **options)
    except Exception as error:
        return {"messages": conversation, "error": str(error)}
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    return {"messages": conversation, "text": text, "tokens": tokens}


@torch.no_grad()
def golden(name, tokenizer, model, digest, out):
    """What transformers computes with a model in `f32`, in eager attention; `digest` is the model's hash."""
    tokens = tokenizer(PROMPT)["input_ids"]
    logits = model(torch.tensor([tokens])).logits[0]
    made, gap = list(tokens), 1e9
    for _ in range(STEPS):
        last = model(torch.tensor([made]), use_cache=False).logits[0, -1]
        best = last.topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        made.append(int(best.indices[0]))
    cached = model.generate(
        torch.tensor([tokens]), max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, repetition_penalty=1.0
    )[0].tolist()
    # `generate` may not take the end token, the loop above may: up to there both agree.
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    until = next((i for i, token in enumerate(made) if i >= len(tokens) and token in ends), len(made))
    assert cached[:until] == made[:until], "transformers disagrees with itself"
    scores = logits[-1:].clone()
    for step in (
        RepetitionPenaltyLogitsProcessor(1.3),
        TemperatureLogitsWarper(0.7),
        TopKLogitsWarper(20),
        TopPLogitsWarper(0.8),
    ):
        scores = step(torch.tensor([tokens]), scores)
    chances = scores.softmax(-1)[0]
    kept = [[i, float(chances[i])] for i in chances.nonzero().flatten().tolist()]
    values = {
        "transformers": transformers.__version__,
        "model_hash": digest,
        "prompt": PROMPT,
        "tokens": tokens,
        "greedy": made[len(tokens) :],
        "kept": kept,
        "texts": [
            {"text": text, "tokens": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
            for text, ids in ((text, tokenizer(text)["input_ids"]) for text in TEXTS)
        ],
        "conversations": [render(tokenizer, conversation) for conversation in CONVERSATIONS],
    }
    tensors = {"logits": logits.contiguous(), "last": last.contiguous()}
    save_file(tensors, out, metadata={"golden": json.dumps(values, ensure_ascii=False)})
    refused = sum("error" in entry for entry in values["conversations"])
    spread = f"logits std {float(logits.std()):.2f}, least gap {gap:.4f}"
    print(f"{name}: {len(tokens)} tokens, {spread}, {len(kept)} kept, {refused} refused")


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    for family in sys.argv[2:] or FAMILIES:
        if not (root / family / "config.json").exists():
            write(root / family, family)
        tokenizer = AutoTokenizer.from_pretrained(root / family)
        model = AutoModelForCausalLM.from_pretrained(
            root / family, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        golden(family, tokenizer, model, model_hash(root / family), root / f"{family}.safetensors")
