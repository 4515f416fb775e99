"""The page in headless Chromium, with a microphone that hears a real file; without Chromium it is skipped."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from idemvox.audio.read import SAMPLE_RATE, read, write_wav
from idemvox.service.app import make_app
from idemvox.service.keys import Keys, load_keys
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.verifier import Verifier

from ..browser import open_browser

PICTURES = os.environ.get("IDEMVOX_PICTURES")
"""A folder for screenshots, to look at."""
KEY = "0123456789abcdef"


def speech(corpus) -> np.ndarray:
    """Eight seconds of a real voice, if the corpora are there; else of the tiny corpus."""
    folder = Path(os.environ.get("IDEMVOX_CORPORA", "../shared/corpora"), "speech/librispeech")
    real = next(iter(sorted(folder.rglob("*.opus"))), None)
    wave = read(real or corpus.labelled.parent / "s0/r0/0.wav")
    return np.resize(wave, 8 * SAMPLE_RATE)


@contextmanager
def site(folder: Path, verifier: Verifier, keys: Keys | None = None) -> Iterator[str]:
    """Serve in a thread; yield the address."""
    store = SqliteStore(folder / "s.sqlite", "m")
    server = uvicorn.Server(uvicorn.Config(make_app(verifier, store, keys=keys), port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def opened(folder: Path, corpus, verifier: Verifier, keys: Keys | None = None) -> Iterator:
    """Yield the page, open in a browser; at the end, nothing has been complained of."""
    write_wav(folder / "microphone.wav", speech(corpus), SAMPLE_RATE)
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    fed = f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}"
    (folder / "browser").mkdir()
    with (
        site(folder, verifier, keys) as address,
        open_browser(folder / "browser", *fake, fed, site=address) as page,
    ):
        page.size(1000)
        page.open(address)
        until(page, "document.getElementById('claimed').options.length")
        yield page
        assert page.complaints == []


def until(page, condition: str) -> None:
    """Wait until an expression is true in the page."""
    script = f"""new Promise((done, fail) => {{
        const end = setTimeout(() => fail(new Error("never: " + document.body.innerText)), 25000);
        const look = () => ({condition}) ? (clearTimeout(end), done(true)) : setTimeout(look, 20);
        look();
    }})"""
    page.run(script)


def picture(page, name: str) -> None:
    """Write screenshots in the width of a desk and of a phone; in neither anything is cut off."""
    for width in (1000, 360):
        page.size(width)
        assert page.run("document.documentElement.scrollWidth") <= width
        if PICTURES:
            page.picture(Path(PICTURES, f"{name}-{width}.png"))


def press_tab_to(page, name: str) -> None:
    """Press Tab until the element with this id has the focus."""
    for _ in range(40):
        page.press("Tab", 9)
        if page.run("document.activeElement.id") == name:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


def typed(page, text: str) -> None:
    page.call("Input.insertText", text=text)


def enter(page) -> None:
    page.press("Enter", 13, "\r")


def record(page, samples: int = 80_000) -> None:
    """Record by the keyboard, and stop after some seconds of sound."""
    page.run("document.body.focus()")
    press_tab_to(page, "record")
    enter(page)
    until(page, f"parseFloat(document.getElementById('clock').textContent) >= {samples / SAMPLE_RATE}")
    enter(page)
    until(page, "document.getElementById('record').textContent == 'Record again' && player.duration > 0")


def result(page) -> str:
    return page.run("document.getElementById('result').innerText")


@pytest.mark.slow
def test_record_enrol_compare_and_delete_by_the_keyboard(tmp_path, corpus, verifier):
    with opened(tmp_path, corpus, verifier) as page:
        picture(page, "empty")
        record(page)
        assert 4.9 <= page.run("player.duration") < 30  # to listen back
        press_tab_to(page, "name")
        typed(page, "Anna <b>")
        enter(page)
        until(page, "document.querySelectorAll('#voices li').length == 1")
        assert "Anna <b> is enrolled, 1 recording in all." in result(page)
        assert page.run("document.getElementById('status').textContent").startswith("Anna <b> is enrolled")
        assert page.run("document.activeElement.id") == "result"  # where a screen reader goes on

        record(page, 100_000)
        assert page.run("player.duration") > 6  # the new recording
        page.run("document.getElementById('claimed').focus()")
        page.press("ArrowDown", 40)
        press_tab_to(page, "")  # the button after the list
        enter(page)
        until(page, "document.querySelector('#decision.accept, #decision.reject, #decision.abstain')")
        until(page, "!document.getElementById('scale').hidden")
        assert "The voice of Anna <b>" in result(page)
        words = page.run("document.getElementById('scale-words').textContent")
        assert words.startswith("Log-likelihood ratio ") and "; the threshold is 0.90 (the line)" in words
        assert "same audio" not in result(page)
        left = [
            page.run(f"document.querySelector('.{part}').getBoundingClientRect().x")
            for part in ("mark", "threshold")
        ]
        assert left[0] > left[1]
        picture(page, "accepted")

        page.run("document.querySelector('#voices button').focus()")
        for key, code in (("Enter", 13), ("Escape", 27)):  # either alone deletes nothing
            enter(page)
            until(page, "document.activeElement.textContent == 'Keep'")
            page.press(key, code, "\r" if key == "Enter" else "")
            until(page, "!document.getElementById('sure').open")
            page.run("new Promise((done) => setTimeout(done, 20))")  # the event of its closing
            assert page.run("document.activeElement.textContent") == "Delete"
        assert page.run("document.querySelectorAll('#voices li').length") == 1
        enter(page)
        until(page, "document.activeElement.textContent == 'Keep'")
        page.press("Tab", 9)
        enter(page)
        until(page, "document.querySelectorAll('#voices li').length == 0")
        assert page.run("document.getElementById('nobody').innerText") == "Nobody yet."


@pytest.mark.slow
def test_the_key_the_uncertain_band_and_a_model_that_is_not_calibrated(tmp_path, corpus, verifier):
    """The key is asked for and kept in memory alone; a file can be sent instead of the microphone's sound."""
    unsure = Verifier(verifier.encoder, verifier.scorer, calibration=_unsure(verifier.calibration))
    keys = load_keys(None, {"IDEMVOX_API_KEY": KEY})
    with opened(tmp_path, corpus, unsure, keys) as page:
        assert page.run("document.getElementById('access').hidden") is False
        press_tab_to(page, "key")
        typed(page, KEY)
        enter(page)
        until(page, "document.getElementById('nobody').innerText == 'Nobody yet.'")
        files = [str(corpus.labelled.parent / f"s0/r0/{n}.wav") for n in (0, 1)]
        choose(page, files[0])
        press_tab_to(page, "name")
        typed(page, "Ben")
        enter(page)
        until(page, "document.querySelectorAll('#voices li').length == 1")
        choose(page, files[1])
        page.run("document.getElementById('claimed').selectedIndex = 1")
        page.run("document.querySelector('#compare button').click()")
        until(page, "document.querySelector('#decision.abstain')")
        assert "No decision" in result(page) and "is too near the threshold" in result(page)
        assert page.run("document.querySelector('.band').getBoundingClientRect().width") > 2
        picture(page, "unsure")
        unsure.calibration = None
        page.run("document.querySelector('#compare button').click()")
        until(page, "document.getElementById('scale').hidden")
        assert "not calibrated" in result(page) and "Score" in result(page)
        page.run("document.getElementById('claimed').selectedIndex = 0")
        page.run("document.querySelector('#compare button').click()")
        until(page, "!document.getElementById('candidates').hidden")
        assert "Ben\tunknown\t" in result(page)
        picture(page, "uncalibrated")
        assert (
            page.run("JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])")
            == '[0,0,""]'
        )


def _unsure(calibration):
    """Return a calibration whose threshold lies somewhere between 0.9 and 5."""
    first, second = (replace(point, low=0.001, high=0.05) for point in calibration.points)
    return replace(calibration, points=(replace(first, llr=5.0), second))


def choose(page, path: str) -> None:
    """Choose a file, as in the file dialog."""
    page.call("DOM.enable")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[path])
    until(page, f"document.getElementById('what').textContent == '{Path(path).name}'")


@pytest.mark.slow
def test_errors_are_said_in_words(tmp_path, corpus, verifier):
    with opened(tmp_path, corpus, verifier) as page:
        page.run("document.querySelector('#compare button').click()")
        message = "document.getElementById('message').textContent"
        until(page, message)
        assert "There is no recording yet" in page.run(message)
        assert page.run("document.getElementById('message').getAttribute('role')") == "alert"


class Elements(HTMLParser):
    """Collects what the page's HTML holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_every_field_has_a_label_every_button_words_and_nothing_comes_from_elsewhere(serving):
    client = serving()
    elements = Elements(client.get("/").text).found
    labels = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    for tag, attributes in elements:
        if tag in ("input", "select"):
            assert attributes["id"] in labels
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(name, next(iter(ids))) in ids
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith("/") and client.get(attributes[name]).status_code == 200
        assert not any(
            name.startswith("on") or name == "style" for name in attributes
        )  # the policy forbids them
    assert ("html", {"lang": "en"}) in elements
    for name in ("/page.js", "/recorder.js", "/page.css"):
        text = client.get(name).text
        assert "innerHTML" not in text and "://" not in text
