"""The pages in a real browser: nothing is cut off at any width, and no name is anything but text."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (360, 768, 1024, 1366, 1920)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

MEASURE = """<script>
const wrong = [], page = document.documentElement, width = page.clientWidth;
for (const details of document.querySelectorAll("details")) details.open = true;
const name = (element) => `${element.tagName}.${element.getAttribute("class")} ${element.textContent.slice(0, 40)}`;
if (page.scrollWidth > width) wrong.push(`page ${page.scrollWidth}`);
for (const element of document.body.querySelectorAll("*")) {
  if (element.closest("svg")) continue;
  const box = element.getBoundingClientRect();
  if (box.right > width + 1 || box.left < -1) wrong.push(`beside the page: ${name(element)}`);
  if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
    wrong.push(`cut off: ${element.scrollWidth} > ${element.clientWidth} ${name(element)}`);
}
let words = 0;
for (const text of document.querySelectorAll("svg text")) {
  const box = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
  words += 1;
  const [left, top] = [box.left - frame.left, box.top - frame.top];
  if (left < -1 || top < -1 || left + box.width > frame.width + 1 || top + box.height > frame.height + 1)
    wrong.push(`outside its drawing: ${name(text)}`);
  if (parseFloat(getComputedStyle(text).fontSize) * text.closest("svg").getScreenCTM().a < 9)
    wrong.push(`too small to read: ${name(text)}`);
}
const active = [...document.querySelectorAll("*")].filter((element) =>
  ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "IMG", "FORM", "BASE"].includes(element.tagName.toUpperCase())
  || [...element.attributes].some((one) => /^on/i.test(one.name) || /^\\s*javascript:/i.test(one.value)));
setTimeout(() => parent.postMessage({
  width, wrong, words, hacked: window.hacked ?? null, active: active.length,
  ids: new Set([...document.querySelectorAll("[id]")].map((element) => element.id)).size
    === document.querySelectorAll("[id]").length,
  text: document.body.innerText,
}, "*"), 200);
</script>"""


def run_chromium(folder: Path, address: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Opens a page without a window, without leaving this machine."""
    quiet = ("quic", "background-networking", "component-update", "sync", "gpu")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars"]
    command += [*(f"--disable-{name}" for name in quiet), "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", *flags, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)


def measure(page: Path, folder: Path) -> list[dict[str, Any]]:
    """What the page is like at each of `WIDTHS`: in frames, since a window cannot be as narrow as a phone."""
    text = page.read_text(encoding="utf-8")
    measured = folder / "measured.html"
    measured.write_text(text.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    frames = "".join(
        f'<iframe src="measured.html" width="{width}" height="900" frameborder="0"></iframe>' for width in WIDTHS
    )
    frame = folder / "frames.html"
    frame.write_text(
        f"<body>{frames}<pre id=found></pre><script>const all = []; addEventListener('message', (event) => {{"
        "all.push(event.data); document.getElementById('found').textContent = JSON.stringify(all)});</script></body>",
        encoding="utf-8",
    )
    shown = run_chromium(folder, frame.as_uri(), "--dump-dom", "--virtual-time-budget=20000", "--window-size=2200,1200")
    found = re.search(r'<pre id="found">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert found is not None, shown.stderr
    pages: list[dict[str, Any]] = json.loads(unescape(found[1]))
    assert sorted(one["width"] for one in pages) == list(WIDTHS)
    return pages


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("page", "after fine-tuning"),
        ("hostile_page", "after fine-tuning"),
        ("card", "episodes of that source"),
        ("hostile_card", "episodes of that source"),
    ],
)
def test_nothing_is_cut_off_at_any_width_and_every_name_is_text(
    kind: str, words: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for shown in measure(request.getfixturevalue(kind), tmp_path):
        assert shown["wrong"] == [], shown["width"]
        assert shown["words"] > 100
        assert shown["hacked"] is None
        assert shown["active"] == 1, "the script that measures, and nothing else"
        assert shown["ids"]
        assert words in shown["text"]


def test_long_numbers_wrap_between_words(page: Path, tmp_path: Path) -> None:
    """The limits of an arm, and returns in the place of success, in every table."""
    text = page.read_text(encoding="utf-8")
    wide, count = re.subn(r"(<td class=\"number\">)-1 to 1<", r"\1-0.0873 to 2.44<", text)
    assert count == 2
    wide, count = re.subn(r">\d\.\d\d to \d\.\d\d<", ">-12345 to -12345<", wide)
    assert count >= 3
    wide, count = re.subn(r"(<td class=\"number\">)\d\.\d\d<", r"\1-12345<", wide)
    assert count >= 6
    changed = tmp_path / "wide.html"
    changed.write_text(wide, encoding="utf-8")
    for shown in measure(changed, tmp_path):
        assert shown["wrong"] == [], shown["width"]


def test_the_measuring_script_finds_what_is_wrong(page: Path, tmp_path: Path) -> None:
    """The same page with a headline table that is cut off, a drawing's text outside of it, and a script of a name."""
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    text = text.replace("<table>", '<div style="overflow: hidden; width: 100px"><table style="width: 300px">', 1)
    text = re.sub(r"(<text[^>]* x=)\"[^\"]*\"", r'\1"5000"', text, count=1)
    text = text.replace("</main>", "<img src=x onerror=window.hacked=1></main>")
    broken.write_text(text, encoding="utf-8")
    for shown in measure(broken, tmp_path):
        assert any(line.startswith("cut off") for line in shown["wrong"])
        assert any(line.startswith("outside its drawing") for line in shown["wrong"])
        assert shown["hacked"] == 1
        assert shown["active"] == 2


def test_the_page_is_there_to_see(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    done = run_chromium(tmp_path, page.as_uri(), "--window-size=1280,1600", f"--screenshot={picture}")
    assert "CONSOLE" not in done.stderr
    image = imread(picture)[..., :3]
    assert image.shape == (1600, 1280, 3)
    colors = np.unique((image.reshape(-1, 3) * 255).astype(np.int64) @ (65536, 256, 1))
    assert len(colors) > 50
    background = (image == image[0, 0]).all(axis=2).mean()
    assert 0.05 < background < 0.95
