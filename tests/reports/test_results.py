"""Committed results files."""

from __future__ import annotations

import json
import os
import socket

import pytest

from idemvox.errors import IdemvoxError
from idemvox.reports.results import machine, write_results

ROWS = [
    {
        "system": "SimCLR",
        "trials": "across, simulated",
        "eer": [0.05, 0.06, 0.07],
        "mindcf_001": [0.5, 0.4, 0.6],
        "mindcf_005": [0.3],
        "epochs": 15,
        "eer_low": [0.04],
    },
    {"system": "SSPS | a", "trials": "within", "eer": [0.0123], "speaker_accuracy": [0.5, 0.25]},
]


def test_both_files(tmp_path):
    as_json, as_text = write_results(
        tmp_path / "results", "first", "First light", "idemvox study first", ROWS, "Simulated recordings."
    )
    values = json.loads(as_json.read_text())
    assert values["rows"] == ROWS and values["command"] == "idemvox study first"
    assert set(values["machine"]) == {"cpu", "cores", "memory_gib", "gpu"}
    assert set(values["versions"]) == {"python", "idemvox", "torch", "numpy"}
    text = as_text.read_text()
    lines = text.splitlines()
    assert lines[0] == "# First light" and "idemvox study first" in lines
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == (
        "| system | trials | EER % | minDCF p=0.01 | minDCF p=0.05 | epochs | EER low % | speaker accuracy |"
    )
    assert table[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert table[2] == (
        "| SimCLR | across, simulated | 6.00 ± 1.00 (5.00, 6.00, 7.00)"
        " | 0.5000 ± 0.1000 (0.5000, 0.4000, 0.6000) | 0.3000 | 15 | 4.00 |  |"
    )
    assert table[3] == "| SSPS \\| a | within | 1.23 |  |  |  |  | 0.375 ± 0.1768 (0.5, 0.25) |"
    assert "Simulated recordings." in lines and "each seed" in text
    assert lines[-2].startswith("Machine: ") and lines[-1].startswith("Versions: python 3")
    assert sorted(p.name for p in as_text.parent.iterdir()) == ["first.json", "first.md"]


def test_nothing_names_the_machine_or_its_folders(tmp_path):
    for path in write_results(tmp_path, "r", "t", "c", ROWS):
        text = path.read_text()
        assert socket.gethostname() not in text and str(tmp_path) not in text and os.getcwd() not in text
    assert machine()["cores"] >= 1 and machine()["cpu"]


def test_another_machine_can_be_stated(tmp_path):
    where = {"cpu": "abacus", "cores": 1, "memory_gib": 2, "gpu": "slide rule"}
    _, text = write_results(tmp_path, "r", "t", "c", ROWS[1:], where=where)
    assert "Machine: abacus, 1 core, 2 GiB, GPU: slide rule." in text.read_text()


def test_refuses_rows_that_say_not_what_they_are(tmp_path):
    with pytest.raises(IdemvoxError, match="no results"):
        write_results(tmp_path, "r", "t", "c", [])
    with pytest.raises(IdemvoxError, match="'system' and 'trials'"):
        write_results(tmp_path, "r", "t", "c", [{"system": "x", "eer": [0.1]}])
    assert not list(tmp_path.iterdir())


def test_what_was_timed_has_no_trials(tmp_path):
    rows = [{"system": "packed", "crops_per_second": [2.0, 4.0]}]
    as_json, as_text = write_results(tmp_path, "r", "t", "c", rows, extra={"limit": 7}, per="round")
    assert json.loads(as_json.read_text())["limit"] == 7
    assert "| packed | 3 ± 1.414 (2, 4) |" in as_text.read_text() and "over rounds;" in as_text.read_text()
