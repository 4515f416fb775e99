"""The report page in a real browser: it shows, plays, prints, and works with the keyboard."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from idemvox.reports.page import report_page

from ..browser import open_browser

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

PLAYED = """new Promise((done, failed) => {
  const audio = document.querySelector(".errors audio");
  audio.onended = () => done([audio.currentTime, audio.duration]);
  audio.onerror = () => failed(audio.error.message);
  audio.playbackRate = 4;
  audio.play().catch(failed);
})"""
PLAYING = """(name) => new Promise((done) => {
  const look = () => {
    const on = [...document.querySelectorAll("audio")].filter((one) => !one.paused && one.currentTime > 0);
    const names = on.map((one) => one.getAttribute("aria-label"));
    names.length === 1 && names[0] === name ? done(true) : setTimeout(look, 20);
  };
  look();
})"""
POINT = """(() => {
  const active = document.activeElement, tip = document.querySelector(".tip");
  const told = tip.hidden ? null : tip.textContent;
  return [active.getAttribute("aria-label"), active.getAttribute("role"), told];
})()"""
PLACE = """(() => {
  const dot = document.querySelectorAll(".voices .dot")[%d];
  dot.scrollIntoView({ block: "center" });
  const box = dot.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
CONTRASTS = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3)
    .map((part) => part / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (part) => {
    const colour = part ? getComputedStyle(part).backgroundColor : "rgb(255, 255, 255)";
    return numbers(colour)[3] === 0 ? behind(part.parentElement) : colour;
  };
  const ratio = (colour, part) => {
    const [low, high] = [light(colour), light(behind(part))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const said = (part) => [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const text = [...document.querySelectorAll("body *:not(script, title, desc)")].filter(said);
  const inked = (part) => part.closest("svg") ? getComputedStyle(part).fill : getComputedStyle(part).color;
  return {
    text: Math.min(...text.map((part) => ratio(inked(part), part))),
    dots: Math.min(...[...document.querySelectorAll(".dot")]
      .map((dot) => ratio(getComputedStyle(dot).fill, dot))),
    lines: Math.min(...[...document.querySelectorAll(".curve")]
      .map((line) => ratio(getComputedStyle(line).stroke, line))),
  };
})()"""
WIDE = """[...document.querySelectorAll("body *:not(.skip, thead, thead *)")].filter((part) =>
  part.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((part) => part.outerHTML.slice(0, 80))"""


@pytest.mark.slow
def test_the_page_in_chromium(run, corpus, tmp_path):
    file = report_page([run], tmp_path / "r.html", manifest=corpus.manifest)
    with open_browser(tmp_path) as page:
        page.size(1280)
        page.open(file)
        levels = page.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(below <= above + 1 for above, below in pairwise(levels))
        landmarks = "['header', 'nav', 'main'].map((name) => document.querySelectorAll(name).length)"
        assert page.run(landmarks) == [1, 1, 1]
        _plays(page)
        _points(page)
        for scheme in ("light", "dark"):
            how = [{"name": "prefers-color-scheme", "value": scheme}]
            page.call("Emulation.setEmulatedMedia", features=how)
            found = page.run(CONTRASTS)
            assert found["text"] >= 4.5 and found["dots"] >= 3 and found["lines"] >= 3, (scheme, found)
        _phone(page)
        _paper(page)
        _without_script(page, file)
        assert page.complaints == []


def _plays(page):
    """A player plays a recording to its end."""
    end, seconds = page.run(PLAYED)
    assert seconds > 1 and end == pytest.approx(seconds, abs=0.1)


def _playing(page, label):
    """Wait until the recording of a point plays, and no other; never, if that never is so."""
    return page.run(f"({PLAYING})({json.dumps(label.split(':')[0])})")


def _points(page):
    """Tab enters the picture, arrows reach every point, Enter plays it; the mouse does both as well."""
    labels = page.run(
        "[...document.querySelectorAll('.voices .dot')].map((d) => d.getAttribute('aria-label'))"
    )
    assert len(set(labels)) == len(labels) == 24
    page.run("document.querySelector('#training summary').focus()")
    page.press("Tab", 9)
    assert page.run(POINT) == [labels[0], "option", labels[0]]
    seen = [labels[0]]
    for _ in labels[1:]:
        page.press("ArrowRight", 39)
        seen.append(page.run(POINT)[0])
    assert seen == labels
    page.press("Home", 36)
    page.press("ArrowDown", 40)
    assert page.run(POINT) == [labels[4], "option", labels[4]]  # of the next speaker; each has four
    page.press("Enter", 13, "\r")
    assert _playing(page, labels[4])
    page.press("Tab", 9)
    assert page.run("document.activeElement.closest('svg')") is None  # one press leaves it again
    page.run("document.activeElement.blur()")
    for at in (7, 20):  # each click stops the one before
        x, y = page.run(PLACE % at)
        page.mouse(x, y)
        assert page.run("document.querySelector('.tip').textContent") == labels[at]
        page.mouse(x, y, click=True)
        assert _playing(page, labels[at])


def _phone(page):
    """Nothing is wider than a phone, also in what is closed at first."""
    page.size(360)
    page.run("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.run(WIDE) == []


def _paper(page):
    """Paper has the worst errors, without players."""
    page.run("for (const part of document.querySelectorAll('details')) part.open = false")
    assert page.pdf().startswith(b"%PDF")
    assert page.run("document.querySelector('.errors').closest('details').open")
    page.call("Emulation.setEmulatedMedia", media="print")
    hidden = (
        "[...document.querySelectorAll('audio, nav')].every((p) => getComputedStyle(p).display === 'none')"
    )
    assert page.run(hidden)
    page.call("Emulation.setEmulatedMedia", media="")


def _without_script(page, file):
    """Without the script the picture is an image whose points have names, and players are there."""
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(file)
    role, names = page.run(
        "[document.querySelector('.voices svg').getAttribute('role'),"
        " document.querySelectorAll('.voices .dot title').length]"
    )
    assert role == "img" and names == 24
    assert page.run("document.querySelectorAll('.errors audio[controls]').length") > 0
