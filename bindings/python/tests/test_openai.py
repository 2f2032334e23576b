"""OpenAI's own client, as it comes, against a coordinator of this package over HTTP."""

import array
import asyncio
import base64
import importlib.util
import io
import json
import math
import pathlib
import re
import urllib.request
import wave

import cuckoo
import golden
import openai
import pytest
import pytest_asyncio
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[3]

spec = importlib.util.spec_from_file_location("openai_market", ROOT / "examples" / "openai_market.py")
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

KEY = "cuckoo-" + "k" * 40


class Market:
    """The example's market, of which the tests hold the parts."""

    def __init__(self, client, coordinator):
        self.client = client
        self.coordinator = coordinator


@pytest_asyncio.fixture
async def connect(closing):
    """Serves a coordinator over HTTP, and gives a client of it."""

    async def connected(coordinator, **options):
        server = await coordinator.serve(**options)
        closing.push_async_callback(server.close)
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY)
        closing.push_async_callback(client.close)
        return client

    return connected


@pytest_asyncio.fixture
async def market(open_market, connect, tmp_path):
    (tmp_path / "app.key").write_text(KEY)
    pictures = cuckoo.ImageExecutor(example.SHAPES, model="shapes")
    executors = [pictures, example.Bigrams(), example.Trigrams(), example.Morse()]
    coordinator, _ = await open_market(*executors, models=example.MODELS, slots=4)
    keys = [{"name": "app", "key_file": str(tmp_path / "app.key"), "max_tasks_per_day": 50}]
    return Market(await connect(coordinator, api_keys=keys), coordinator)


def share_of_red(picture):
    values = iter(picture.convert("RGB").tobytes())
    pixels = list(zip(values, values, values))
    return sum(red > 150 and green < 110 and blue < 110 for red, green, blue in pixels) / len(pixels)


async def test_pictures_are_generated(market):
    ask = {"model": "shapes", "prompt": "a large red circle on a blue background", "extra_body": {"seed": 7}}
    made = await market.client.images.generate(**ask, n=2, size="64x64", response_format="b64_json")
    pictures = [Image.open(io.BytesIO(base64.b64decode(one.b64_json))) for one in made.data]
    assert [picture.size for picture in pictures] == [(64, 64)] * 2
    assert all(share_of_red(picture) > 0.1 for picture in pictures)
    assert made.data[0].b64_json != made.data[1].b64_json
    # The same seed again, by link: no key goes with it.
    linked = await market.client.images.generate(**ask)
    fetch = asyncio.to_thread(lambda: urllib.request.urlopen(linked.data[0].url, timeout=30).read())
    assert base64.b64encode(await fetch).decode() == made.data[0].b64_json


async def test_a_chat_is_streamed(market):
    conversation = [
        {"role": "system", "content": "the cuckoo lays eggs"},
        {"role": "user", "content": "the cuckoo sings in the wood"},
    ]
    known = set("the cuckoo lays eggs sings in wood".split())
    ask = {"model": "bigrams", "messages": conversation, "seed": 3, "max_tokens": 12}
    whole = await market.client.chat.completions.create(**ask)
    text = whole.choices[0].message.content
    assert len(text.split()) == 12 and set(text.split()) <= known
    assert whole.choices[0].finish_reason == "length"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (10, 12)

    stream = await market.client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece or "" for piece in pieces) == text
    assert len(pieces) == 14
    assert chunks[-1].usage == whole.usage

    ended = await market.client.chat.completions.create(**ask, stop=["eggs", "wood"])
    assert ended.choices[0].finish_reason in ("stop", "length")
    assert not {"eggs", "wood"} & set(ended.choices[0].message.content.split())

    other = await market.client.chat.completions.create(**{**ask, "temperature": 0}, logprobs=True, top_logprobs=2)
    token = other.choices[0].logprobs.content[0]
    assert token.logprob == 0 and token.top_logprobs[0].token == token.token


async def test_answers_have_the_form_that_is_asked_for(open_market, connect):
    executor = cuckoo.TextExecutor(ROOT / "examples" / "models" / "stories", model="stories")
    models = [{"model": "stories", "kind": "chat", "price": "0.01"}]
    coordinator, _ = await open_market(executor, models=models, slots=4)
    client = await connect(coordinator)
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Z][a-z]{2,7}$"},
            "tags": {"type": "array", "items": {"enum": ["small", "red"]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
    ask = {
        "model": "stories",
        "messages": [{"role": "user", "content": "What is 17 + 25?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": schema}},
    }
    made = await client.chat.completions.create(**ask, seed=7, n=4, temperature=1)
    for choice in made.choices:
        assert choice.finish_reason == "stop"
        pet = json.loads(choice.message.content)
        assert list(pet) == ["name", "tags"]
        assert re.fullmatch("[A-Z][a-z]{2,7}", pet["name"])
        assert 1 <= len(pet["tags"]) <= 2 and set(pet["tags"]) <= {"small", "red"}
    stream = await client.chat.completions.create(**ask, seed=7, temperature=1, stream=True)
    said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert said == made.choices[0].message.content


async def test_texts_are_embedded(market):
    texts = ["a red circle", "the red circle", "quarterly earnings"]
    embedded = await market.client.embeddings.create(model="trigrams", input=texts)
    near, same, far = (one.embedding for one in embedded.data)
    assert len(near) == example.Trigrams.LENGTH
    similar = lambda a, b: sum(x * y for x, y in zip(a, b))  # noqa: E731
    assert similar(near, same) > similar(near, far)
    assert embedded.usage.prompt_tokens == 8
    # What the client asks for by itself is base64; the numbers are the same.
    plain = await market.client.embeddings.create(model="trigrams", input=texts[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(near)


def keyed(code):
    """A recording of Morse code, with dots of 60 ms."""
    tone, rest = [round(9000 * math.sin(step / 2)) for step in range(480)], [0] * 480
    signs = {".": tone + rest, "-": tone * 3 + rest, " ": rest * 2, "/": rest * 2}
    samples = array.array("h", [sample for sign in code for sample in signs[sign]])
    recording = io.BytesIO()
    with wave.open(recording, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return recording.getvalue()


async def test_recordings_are_written_down(market):
    audio = market.client.audio
    ask = {"model": "morse", "file": ("code.wav", keyed("-.-. --.- / ... --- ..."))}
    told = await audio.transcriptions.create(**ask)
    assert told.text == "cq sos"
    assert (told.usage.type, told.usage.seconds) == ("duration", 4)
    verbose = await audio.transcriptions.create(
        **ask, response_format="verbose_json", timestamp_granularities=["segment"], language="en", temperature=0
    )
    assert (verbose.task, verbose.language, verbose.duration) == ("transcribe", "english", 3.72)
    segments = [(one.id, one.start, one.end, one.text) for one in verbose.segments]
    assert segments == [(0, 0.0, 1.62, "cq"), (1, 2.04, 3.72, "sos")]
    written = {form: await audio.transcriptions.create(**ask, response_format=form) for form in ("text", "srt", "vtt")}
    assert written["text"] == "cq sos\n"
    assert written["srt"] == "1\n00:00:00,000 --> 00:00:01,620\ncq\n\n2\n00:00:02,040 --> 00:00:03,720\nsos\n\n"
    assert written["vtt"] == "WEBVTT\n\n00:00:00.000 --> 00:00:01.620\ncq\n\n00:00:02.040 --> 00:00:03.720\nsos\n\n"

    english = await audio.translations.create(**ask)
    assert english.text == "calling anyone sos"
    english = await audio.translations.create(**ask, response_format="verbose_json", prompt="a telegram", temperature=0)
    assert (english.task, english.language, english.segments[0].text) == ("translate", "english", "calling anyone")


async def test_the_ear_for_morse_code_counts_begun_seconds():
    class Context:
        async def blob(self, _):
            return keyed("-.-. --.- / ... --- ..."), "audio/wav"

    task = {"input": json.dumps({"audio": "code.wav"})}
    transcript, _, usage = await example.Morse().execute(task, Context())
    assert json.loads(transcript)["duration_millis"] == 3720
    assert (usage["input_units"], usage["output_units"]) == (4, 2)


async def test_a_whisper_writes_recordings_down(open_market, connect):
    executor = cuckoo.SpeechExecutor(golden.SPEECH / "multilingual", model="whisper-1")
    models = [{"model": "whisper-1", "kind": "transcription", "price": "0.01"}]
    coordinator, _ = await open_market(executor, models=models)
    audio = (await connect(coordinator)).audio
    asked = golden.asked("multilingual")
    languages = {"zh": "chinese", "de": "german"}
    for answer in asked["recordings"]:
        ask = {"model": "whisper-1", "file": ("talk.wav", golden.recording(answer["name"]))}
        told = await audio.transcriptions.create(**ask)
        assert told.text == answer["plain"]["text"].strip()
        verbose = await audio.transcriptions.create(**ask, prompt=asked["prompt"], response_format="verbose_json")
        assert (verbose.language, verbose.text) == (languages[answer["language"]], answer["prompted"]["text"].strip())
        millis = round(verbose.duration * 1000)
        assert told.usage.seconds == math.ceil(verbose.duration)
        parts = [(round(part.start * 1000), round(part.end * 1000), part.text) for part in verbose.segments]
        assert parts == golden.segments(answer["prompted"], millis)
        english = await audio.translations.create(**ask, extra_body={"language": "de"})
        assert english.text == answer["translated"]["text"].strip()


async def test_what_is_no_recording_is_refused(market):
    create = market.client.audio.transcriptions.create
    ask = {"model": "morse", "file": ("code.wav", keyed("..."))}
    for odd, param in [
        ({"file": ("song.mp3", b"ID3" + bytes(100))}, "file"),
        ({"timestamp_granularities": ["word"], "response_format": "verbose_json"}, "timestamp_granularities[]"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"include": ["logprobs"]}, "include[]"),
        ({"languages": ["en"]}, "languages[]"),
        ({"stream": True}, "stream"),
        ({"temperature": 1.5}, "temperature"),
        ({"model": "bigrams"}, "model"),
    ]:
        with pytest.raises(openai.BadRequestError) as raised:
            await create(**{**ask, **odd})
        assert raised.value.param == param
    with pytest.raises(openai.NotFoundError):
        await create(**{**ask, "model": "whisper-1"})
    # What only the model can know.
    with pytest.raises(openai.BadRequestError, match="one channel"):
        stereo = bytearray(ask["file"][1])
        stereo[22] = 2
        await create(**{**ask, "file": ("code.wav", bytes(stereo))})


async def test_models_are_listed(market):
    listed = [model async for model in market.client.models.list()]
    assert [model.id for model in listed] == ["shapes", "bigrams", "trigrams", "morse"]
    assert (await market.client.models.retrieve("bigrams")).kind == "chat"


async def test_errors_are_the_clients_own(market):
    chat = market.client.chat.completions
    hello = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError) as raised:
        await chat.create(model="gpt-9", messages=hello)
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as raised:
        await chat.create(model="shapes", messages=hello)
    assert raised.value.param == "model" and "an image model" in raised.value.message
    with pytest.raises(openai.BadRequestError) as raised:
        await chat.create(model="bigrams", messages=hello, response_format={"type": "yaml"})
    assert raised.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="does not honour format"):
        await chat.create(model="bigrams", messages=hello, response_format={"type": "json_object"})
    with pytest.raises(openai.BadRequestError, match="no words"):
        await chat.create(model="bigrams", messages=[{"role": "user", "content": " "}], stream=True)
    with pytest.raises(openai.BadRequestError, match="top_p"):
        await chat.create(model="bigrams", messages=hello, top_p=0.5)
    stranger = market.client.with_options(api_key="sk-nobody")
    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()
    eager = market.client.with_options(max_retries=0)
    with pytest.raises(openai.RateLimitError) as raised:
        for _ in range(10):
            await eager.chat.completions.create(model="bigrams", messages=hello, n=10, max_tokens=1)
    assert raised.value.code == "insufficient_quota"


async def test_who_stops_listening_cancels(market):
    ask = {"model": "bigrams", "messages": [{"role": "user", "content": "on and on"}], "max_tokens": 10**6}
    stream = await market.client.chat.completions.create(**ask, stream=True)
    async for _ in stream:
        break
    await stream.close()
    for _ in range(1200):
        if market.coordinator.status()["cancelled"]:
            break
        await asyncio.sleep(0.05)
    assert market.coordinator.status()["cancelled"] == 1
