"""The scripts that people copy: they train, and leave a run that the package reads."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrl.agents.crl import CRL
from jaxrl.agents.gqn import GQN
from jaxrl.errors import UsageError
from jaxrl.report.runs import collect
from jaxrl.train.runlog import RunFolder

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SETTINGS = {
    "gqn_dmc": {
        "task": "probe-both",
        "agent": GQN(width=16, batch_size=16, critics=1, torso="plain"),
    },
    "crl_goals": {
        "task": "point-umaze",
        "num_envs": 8,
        "updates_per_iteration": 2,
        "eval_episodes": 4,
        "agent": CRL(width=16, representation=8, batch_size=16),
    },
}
STEPS = {"steps": 240, "eval_every": 160, "chunk_steps": 80, "learning_starts": 80, "capacity": 800}


def script(name: str, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_script_has_settings():
    assert {path.stem for path in EXPERIMENTS.glob("*.py")} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_script_leaves_a_run(name, tmp_path, monkeypatch):
    module = script(name, monkeypatch)
    args = module.Args(**{**STEPS, **SETTINGS[name]}, out=tmp_path / "run")
    last = module.main(args)
    assert np.isfinite(last)
    folder = RunFolder.open(tmp_path / "run")
    metrics = folder.metrics()
    assert [line["global_step"] for line in metrics if "eval/return_mean" in line] == [0, 160, 240]
    losses = [v for line in metrics for k, v in line.items() if k.startswith("losses/")]
    assert len(losses) == 2  # of three chunks, the first fills the replay
    assert np.all(np.isfinite(losses))
    assert folder.config()["env_id"] == args.task
    (read,) = collect([tmp_path / "run"])
    assert read.task == args.task


IMPOSSIBLE = [
    *({"chunk_steps": 81}, {"eval_every": 100}, {"steps": 200}, {"learning_starts": 81}),
    *({"num_envs": 0}, {"chunk_steps": 0}, {"steps": -80}),
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_chunk_that_leaves_rows_unwritten_is_refused(name, change, tmp_path, monkeypatch):
    module = script(name, monkeypatch)
    args = module.Args(**{**STEPS, **SETTINGS[name], **change}, out=tmp_path / "run")
    ((what, value),) = change.items()
    line = rf"{what} must be a multiple of \d+, above 0, got {value}"
    with pytest.raises(UsageError, match=line):
        module.main(args)
    assert not (tmp_path / "run").exists()
