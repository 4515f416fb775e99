"""Reports: reading and writing them, the table."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from idemvox.errors import IdemvoxError
from idemvox.verification.report import Report, load_report, reports_table, store_report


def test_a_saved_report_is_read_back(tmp_path):
    assert load_report(tmp_path) is None
    report = Report("calls", 1234, 56789, 0.0512, 0.4, 0.4567, 0.3456, model={"recipe": "tiny"})
    store_report(tmp_path, report)
    assert load_report(tmp_path) == report
    better = replace(report, eer=0.0)
    assert store_report(tmp_path, better) == Path(tmp_path) / "report.json"
    assert load_report(tmp_path) == better
    for text in ("{", "[]", "{}"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(IdemvoxError, match=r"report\.json: .*evaluate the model again"):
            load_report(tmp_path)


def test_the_table_states_unit_and_prior():
    a = Report("calls", 1234, 56789, 0.0512, 0.4, 0.4567, 0.3456)
    b = replace(a, trials="own", eer_low=0.0391, eer_high=0.0684)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(reports_table([a, b]))
    text = console.export_text()
    for part in (
        "EER %",
        "minDCF p=0.01",
        "minDCF p=0.05",
        "1,234",
        "5.12 (3.9 to 6.8)",
        "0.4567",
        "resampled",
    ):
        assert part in text
    console.print(a.table())
    assert "resampled" not in console.export_text()
