"""A person's minutes for 100 digits on the labeling page: ``python -m benchmarks.labeling``.

Chromium answers the questions of a real run by its keys. The person is assumed, the page is
measured: the next key comes so many seconds after the next picture can be seen.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

RUN = (
    "data=digits",
    "model=logistic_regression",
    "strategy=margin",
    "oracle=page",
    "oracle.open_browser=false",
)
SPREAD = 0.3
"""Of the logarithm of a person's seconds."""

# Of each key press: when the browser had it, when its mark was painted, when the next item was.
WATCH = """
window.presses = [];
const painted = (then) => requestAnimationFrame(() => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => then(performance.now());
    port2.postMessage(null);
});
addEventListener('keydown', (event) => window.presses.push({key: event.timeStamp}), true);
addEventListener('DOMContentLoaded', () => {
    const note = (name) => () => {
        const last = window.presses.at(-1);
        if (last && !last[name]) { last[name] = -1; painted((at) => { last[name] = at; }); }
    };
    const attributes = {subtree: true, attributes: true, attributeFilter: ['aria-pressed']};
    new MutationObserver(note('mark')).observe(document.querySelector('#answers'), attributes);
    for (const id of ['stage', 'between']) {
        const content = {childList: true};
        new MutationObserver(note('next')).observe(document.getElementById(id), content);
    }
});
"""
SHOWN = """(count) => window.presses.length === count && window.presses.at(-1).next > 0"""


class Person:
    """Knows the digits, and takes a while for each.

    Args:
        seconds: Median from the sight of a digit to the key.
    """

    def __init__(self, seconds: float) -> None:
        data = load_digits()
        pixels = (data.images / 16 * 255).astype(int).reshape(len(data.images), -1)
        self._pixels, self._digits = pixels, data.target
        self._seconds, self._rng = seconds, random.Random(0)

    def reads(self, png: bytes) -> str:
        """The digit in a picture."""
        shown = np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]).convert("L")).reshape(1, -1)
        return str(self._digits[np.abs(self._pixels - shown).sum(1).argmin()])

    def thinks(self) -> float:
        """Seconds until the next key."""
        return self._seconds * self._rng.lognormvariate(0, SPREAD) if self._seconds else 0.0


@contextmanager
def run(folder: str, budget: int, size: int) -> Iterator[str]:
    """A run that asks on a page; gives the page's address."""
    command = [sys.executable, "-c", "from dal.cli.command import main; main()", "train", *RUN]
    command += [f"query_size={size}", f"budget={budget}"]
    out = Path(folder, "out.txt")  # not a pipe: nobody would empty it
    with out.open("w") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, "DAL_SAVED_DIR": folder},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(process, out)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], out: Path, seconds: float = 120) -> str:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if found := re.search(r"http://\S+\?token=\S+(?=\s)", out.read_text()):
            return found[0]
        time.sleep(0.02)
    raise RuntimeError(f"the run gave no address in {seconds:.0f} s:\n{out.read_text()}")


def answer(page: Any, person: Person, size: int) -> float:
    """Answer a question by keys; the seconds from its first picture to its last saved answer."""
    base = page.url.rstrip("/")
    state = page.request.get(f"{base}/api/state?name=Ada").json()
    pictures = [page.request.get(f"{base}/api/image/{item['id']}") for item in state["items"]]
    keys = [person.reads(picture.body()) for picture in pictures]
    done = page.evaluate("window.presses.length")
    start = time.perf_counter()
    for count, key in enumerate(keys, done + 1):
        page.wait_for_timeout(1000 * person.thinks())
        page.keyboard.press(key)
        page.wait_for_function(SHOWN, arg=count)
    page.wait_for_selector("#give")
    took = time.perf_counter() - start
    assert len(keys) == size
    return took


def measure(seconds: float, count: int, size: int, chromium: str) -> tuple[list[Any], list[float]]:
    """Times of the key presses, and the seconds of each question.

    Args:
        seconds: Median time of the person from sight to key.
        count: Digits to label.
        size: Digits a round.
        chromium: The browser's program.
    """
    from playwright.sync_api import sync_playwright

    person, presses, times = Person(seconds), [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        run(folder, count, size) as address,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        page.fill("#name", "Ada")
        page.keyboard.press("Enter")
        for _ in range(count // size):
            page.wait_for_selector("body[data-mode=ask] #stage img", timeout=120_000)
            before = page.evaluate("window.presses.length")
            times.append(answer(page, person, size))
            presses += page.evaluate("window.presses")[before:]
            page.keyboard.press("Enter")
            page.wait_for_selector("body:not([data-mode=end])")  # training may be too short to see
        page.wait_for_selector("body[data-mode=done]", timeout=120_000)
        browser.close()
    return presses, times


def in_words(name: str, values: Sequence[float]) -> str:
    """A row of the table: median, 95 %, largest, of milliseconds."""
    ordered = sorted(values)
    high = ordered[int(np.ceil(0.95 * len(ordered))) - 1]
    return f"| {name} | {statistics.median(values):.0f} | {high:.0f} | {ordered[-1]:.0f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="from sight to key, median")
    parser.add_argument("--count", type=int, default=100, help="digits to label")
    parser.add_argument("--size", type=int, default=50, help="digits a round")
    given = parser.parse_args()
    chromium = os.environ.get("DAL_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no Chromium on the PATH; set DAL_CHROMIUM to its program")
    presses, times = measure(given.seconds, given.count, given.size, chromium)
    person = Person(given.seconds)
    own = sum(person.thinks() for _ in presses)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| from the key press, ms | median | 95 % | largest |\n|---|---:|---:|---:|")
    print(in_words("its mark is painted", [p["mark"] - p["key"] for p in presses]))
    print(in_words("the next item is painted", [p["next"] - p["key"] for p in presses]))
    rest = 1000 * (sum(times) - own) / len(presses)
    print(
        f"\n{len(presses)} digits: {sum(times) / 60:.2f} minutes from the first picture to the last"
    )
    print(f"answer on the disk; {own:.1f} s are the person's, {rest:.0f} ms an answer are not")


if __name__ == "__main__":
    main()
