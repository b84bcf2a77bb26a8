from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wstrack
from wstrack.cli import main

pytestmark = pytest.mark.slow


def test_the_demo_trains_reads_back_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    accuracy = float(out.split("test accuracy: ")[1].split("%")[0])
    assert accuracy > 95
    assert 1 <= out.count("\n  - ") <= 3
    folder = tmp_path / "wstrack-demo"
    assert {path.name for path in folder.iterdir()} == {"runs", "report.html", "report.json", "report.csv"}
    logged = wstrack.pull(f"tensorboard:{folder / 'runs' / 'digits-1'}")
    recorded = wstrack.pull(folder / "runs" / "digits-1")
    assert logged.completeness.missing == 0
    np.testing.assert_array_equal(
        logged.series["rwc"].to_numpy(), recorded.series["rwc"].to_numpy().astype(np.float32).astype(np.float64)
    )
