"""A full disk costs a checkpoint and a line, not the run."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

from jaxrl.agents.gqn import GQN
from jaxrl.train.config import TrainConfig
from jaxrl.train.runner import train


def test_a_full_disk_fails_the_save_in_one_line_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**10))
    out = tmp_path / "run"
    config = TrainConfig(steps=2000, capacity=4000, eval_every=2000, out=out, video=False)
    result = train("gqn", GQN(width=16), "probe-constant", config)
    assert result.finished and result.saved is None  # the command ends with 1
    said = [line for line in capsys.readouterr().out.splitlines() if "checkpoint" in line]
    assert said[0].startswith("checkpoint at step 2000 failed, the run goes on: the disk of")
    assert said[1:] == ["finished at step 2,000 without a checkpoint; --resume starts again"]
    assert not any(path.name.isdigit() for path in (out / "checkpoints").iterdir())
    assert (out / "metrics.jsonl").exists() and (out / "curve.png").exists()
