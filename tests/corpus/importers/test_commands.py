"""The commands, as typed by a user."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.corpus.checks.official import Official
from idemvox.corpus.checks.problems import Summary
from idemvox.corpus.importers.registry import IMPORTERS, Setting
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError

from .trees import CORPORA


def test_every_importer_is_tested_here():
    assert list(IMPORTERS) == sorted(CORPORA)


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_has_its_command(tmp_path, name):
    (tmp_path / "in").mkdir()
    CORPORA[name].build(tmp_path / "in")
    result = CliRunner().invoke(app, ["prepare", name, str(tmp_path / "in"), "-q"], env={"COLUMNS": "160"})
    assert result.exit_code == 0, (result.output, result.exception)
    written = sorted((tmp_path / "in").glob("manifest*.csv"))
    assert sum(len(load_manifest(file)) for file in written) == CORPORA[name].rows
    assert result.output.count("taken") == len(written)
    assert ("pieces" if name == "musan" else "utterances" if name == "kaldi" else "files") in result.output
    help_text = CliRunner().invoke(app, ["prepare", name, "--help"], env={"COLUMNS": "160"}).output
    assert f"idemvox prepare {name} " in help_text


def test_some_corpora_have_options_of_their_own(tmp_path):
    (tmp_path / "in").mkdir()
    CORPORA["rirs"].build(tmp_path / "in")
    CORPORA["musan"].build(tmp_path / "in")
    run = CliRunner()
    for words in (["rirs", "--real"], ["musan", "--piece", "2.5"]):
        out = str(tmp_path / f"{words[0]}.csv")
        result = run.invoke(app, ["prepare", words[0], str(tmp_path / "in"), "--out", out, "-q", *words[1:]])
        assert result.exit_code == 0, (result.output, result.exception)
    assert len(load_manifest(tmp_path / "rirs.csv")) == 9
    assert [u.start for u in load_manifest(tmp_path / "musan.music.csv")] == [0.0, 2.5]


def test_a_new_importer_is_one_decorated_function(tmp_path, monkeypatch):
    """The command, its options and help, and the doctor's counts come from it."""
    list(IMPORTERS)  # loads the existing importers, which stay
    monkeypatch.setattr(IMPORTERS, "_importers", dict(IMPORTERS._importers))
    seen = {}

    @IMPORTERS.register(
        "calls", help="Prepare [calls].", official=(Official("calls-2020", re.compile("x"), {"files": 3}),)
    )
    def prepare_calls(
        folder: str | Path,
        out: str | Path,
        *,
        loud: Annotated[bool, Setting("Shouting too.")] = False,
        lines: Annotated[int, Setting("Of the exchange.", least=2)] = 4,
        min_seconds: float = 0.7,
        workers: int | None = None,
        progress: bool = True,
    ) -> Summary:
        seen.update(folder=folder, out=out, loud=loud, lines=lines)
        seen.update(min_seconds=min_seconds, workers=workers, progress=progress)
        return Summary(Path(out), 3, 1.0, None, (), (), None)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, [*words], env={"COLUMNS": "160"})
        assert result.exit_code in (0, 2), (result.output, result.exception)
        return re.sub(r"[\s│]+", " ", result.output)

    assert "calls Prepare [calls]." in run("prepare", "--help")
    shown = run("prepare", "calls", "--help")
    assert "Prepare [calls]." in shown and "--no-loud" not in shown and "[default: 0.7]" in shown
    assert "Shouting too." in shown and "[x>=2] Of the exchange. [default: 4]" in shown
    assert "taken 3 files" in run("prepare", "calls", str(tmp_path), "-q", "--loud", "--lines", "7")
    assert seen == {
        **{"folder": tmp_path, "out": tmp_path / "manifest.csv", "loud": True, "lines": 7},
        **{"min_seconds": 0.7, "workers": None, "progress": False},
    }
    assert "Invalid value for '--lines'" in run("prepare", "calls", str(tmp_path), "--lines", "1")
    assert "calls-2020, " in run("doctor", "--help")
    with pytest.raises(ValueError, match=r"importer 'calls' is already test_a_new.*prepare_calls"):
        IMPORTERS.register("calls", help="")(lambda folder, out: [])


def test_an_unknown_importer_or_command_is_reported():
    with pytest.raises(IdemvoxError, match="unknown importer 'voxceleb'; did you mean 'voxceleb"):
        IMPORTERS["voxceleb"]
    result = CliRunner().invoke(app, ["prepare", "voxceleb3", "x"])
    assert result.exit_code == 2 and "No such command 'voxceleb3'" in result.output


def test_commands_that_need_no_importer_import_none():
    code = (
        "import sys; from typer.testing import CliRunner; from idemvox.cli import app\n"
        "for words in (['--help'], ['prepare', 'folder', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "print([name for name in sys.modules if name.startswith('idemvox.corpus')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
