"""Runs every Python snippet of README and docs as it stands, from the checkout's root, each in a program of its own."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/README.zh-CN.md", "bindings/python/README.md"]


def snippets():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1):
            yield pytest.param(code, id=f"{page}-{number}")


@pytest.mark.parametrize("code", list(snippets()))
def test_a_python_snippet_runs_as_it_stands(code, tmp_path):
    # Its files are opened relative to where it runs, so give it a folder that looks like the checkout.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    for name in re.findall(r'open\("([^"]+)", "wb"\)', code):
        picture = (tmp_path / name).read_bytes()
        assert picture.startswith(b"\x89PNG"), name


def test_every_page_has_a_snippet():
    pages = {str(param.id).rsplit("-", 1)[0] for param in snippets()}
    assert pages == set(PAGES)


def test_rust_shown_in_the_pages_is_the_file_that_is_compiled():
    for page in ["README.md", "docs/README.zh-CN.md", "docs/embed.md", "docs/miner.md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        blocks = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL)
        assert blocks, page
        for path, shown in blocks:
            assert shown == (ROOT / path).read_text(encoding="utf-8"), path


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
