"""The steps on a GPU: one that fails, hangs or comes too late does not affect the others."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
WRITES = "import json, sys; json.dump({'found': 1}, open(sys.argv[1], 'w'))"
HANGS = f"""{WRITES}
import subprocess, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1] + ".pid", "w").write(str(child.pid))
time.sleep(600)
"""


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu

    return gpu


def carry_out(
    gpu, monkeypatch, out: Path, scripts: dict[str, str], minutes: float
) -> dict[str, dict[str, str]]:
    """Run other steps instead, and return how each ended."""

    def command(step, args, seconds):
        return [sys.executable, "-c", scripts.get(step, ""), str(out / f"{step}.json")]

    monkeypatch.setattr(gpu, "command", command)
    monkeypatch.setattr(gpu, "CLOSING", 0.0)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out), "--minutes", str(minutes)])
    gpu.main()
    ends: dict[str, dict[str, str]] = json.loads((out / "plan.json").read_text())
    return ends


def test_every_step_leaves_its_results(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "SHARES", {"peak": 0.9, "right": 0.9, "sizes": 0.2, "speed": 0.9})
    monkeypatch.setattr(gpu, "SHORTEST", 0.0)
    scripts = {"peak": WRITES, "right": "raise SystemExit(3)", "sizes": HANGS, "speed": WRITES}
    ends = carry_out(gpu, monkeypatch, tmp_path, scripts, 0.5)
    assert ends["peak"]["end"] == "done"
    assert "exit code 3" in ends["right"]["end"]
    assert "out of time" in ends["sizes"]["end"]
    assert ends["speed"]["end"] == "done"
    for step in ("peak", "sizes", "speed"):
        assert json.loads((tmp_path / f"{step}.json").read_text()) == {"found": 1}
    gone(int((tmp_path / "sizes.json.pid").read_text()))


def gone(pid: int) -> None:
    """Fail unless a process has ended, or does so soon."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.is_file() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")


def test_steps_without_time_left_are_skipped(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "SHARES", {"peak": 0.5, "right": 0.5})
    ends = carry_out(gpu, monkeypatch, tmp_path, {}, 0.001)
    assert {end["end"] for end in ends.values()} == {"skipped: no time left"}


def test_a_real_step_runs(tmp_path):
    words = [sys.executable, str(SCRIPTS / "gpu_steps.py"), "peak", "--out", str(tmp_path), "--device", "cpu"]
    subprocess.run([*words, "--tiny"], check=True, capture_output=True)
    found = json.loads((tmp_path / "peak.json").read_text())
    assert found["product_bf16_tflops"] > 0 and found["copy_gb_per_second"] > 0
