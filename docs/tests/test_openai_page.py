"""Runs every snippet of docs/openai.md against the market that its first one starts, at whichever port is free."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8480"
# What the page calls `python` is the one that has the package.
ENVIRONMENT = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def address():
    (start,) = blocks("sh market")
    command = f"exec {start.replace(ADDRESS, '127.0.0.1:0')}"
    market = subprocess.Popen(
        ["bash", "-ec", command], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        said = re.fullmatch(r"base_url: http://(\S+)/v1\n", market.stdout.readline())
        assert said, "the market says where it is"
        yield said[1]
    finally:
        market.terminate()
        market.wait(30)


def python(code, address, folder):
    run = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, address)],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def curl(code, address, folder):
    run = subprocess.run(
        ["bash", "-ec", code.replace(ADDRESS, address)],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert '"error"' not in run.stdout, run.stdout
    return run.stdout


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_snippet_runs_as_it_stands(code, address, tmp_path):
    output = python(code, address, tmp_path)
    for line, said in re.findall(r"(print\(.*?\))  # (.*)", code):
        assert said in output, line
    for name in re.findall(r'open\("([^"]+)", "wb"\)', code):
        magic = {".png": b"\x89PNG", ".wav": b"RIFF"}[pathlib.Path(name).suffix]
        assert (tmp_path / name).read_bytes().startswith(magic), name


@pytest.mark.parametrize("code", blocks("sh"))
def test_a_curl_snippet_is_answered(code, address, tmp_path):
    output = curl(code, address, tmp_path)
    for answer in ['"url":', "data: [DONE]", '"embedding":', '"owned_by":']:
        assert answer in output, answer


def test_a_recording_is_sent_by_curl(address, tmp_path):
    (code,) = blocks("sh recording")
    (made,) = (snippet for snippet in blocks("python") if "wave.open" in snippet)
    python(made, address, tmp_path)
    output = curl(code, address, tmp_path)
    assert output == "WEBVTT\n\n00:00:00.000 --> 00:00:01.620\ncq\n\n00:00:02.040 --> 00:00:03.720\nsos\n\n"
