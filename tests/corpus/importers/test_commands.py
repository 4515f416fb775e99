"""The commands as a person types them."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.corpus.manifest import load_manifest

from .trees import CORPORA


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
    assert f"Example: idemvox prepare {name} " in help_text


def test_options_that_only_one_corpus_has(tmp_path):
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
