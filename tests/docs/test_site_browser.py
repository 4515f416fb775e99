"""The site in a browser: a desktop and a phone show it without errors, and its search finds things."""

from __future__ import annotations

import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ..browser import open_browser
from .test_site import site  # noqa: F401

pytestmark = pytest.mark.slow

PAGES = ("index", "tutorials/calls", "reference/recipes", "reference/commands", "results/train_step")
SEARCH = """
(async () => {
  const input = document.querySelector(".md-search__input");
  document.querySelector("[data-md-toggle=search]").checked = true;
  input.focus();
  input.value = "pseudo-positive";
  input.dispatchEvent(new Event("input", {bubbles: true}));
  input.dispatchEvent(new Event("keyup", {bubbles: true}));
})()
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(site):  # noqa: F811
    """The site, served to this machine alone: search fetches its index, which browsers refuse for files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pages_and_search_in_a_browser(address, tmp_path):
    with open_browser(tmp_path) as page:
        for width in (1280, 360):
            page.size(width, 900)
            for name in PAGES:
                page.open(f"{address}/{name}.html")
                assert page.run("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
        page.size(1280, 900)
        page.open(f"{address}/index.html")
        page.run(SEARCH)
        end = time.monotonic() + 30
        while not (found := page.run("document.querySelectorAll('.md-search-result__item').length")):
            assert time.monotonic() < end, "the search finds nothing"
            time.sleep(0.1)
        assert found
        asked = f"asked for {address}"
        assert not [complaint for complaint in page.complaints if not complaint.startswith(asked)]
