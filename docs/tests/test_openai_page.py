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


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_snippet_runs_as_it_stands(code, address, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, address)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stderr
    for line, said in re.findall(r"(print\(.*?\))  # (.*)", code):
        assert said in run.stdout, line
    for name in re.findall(r'open\("([^"]+)", "wb"\)', code):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG"), name


@pytest.mark.parametrize("code", blocks("sh"))
def test_a_curl_snippet_is_answered(code, address, tmp_path):
    run = subprocess.run(
        ["bash", "-ec", code.replace(ADDRESS, address)],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert '"error"' not in run.stdout, run.stdout
    for answer in ['"url":', "data: [DONE]", '"embedding":', '"owned_by":']:
        assert answer in run.stdout, answer
