"""`jaxrl compare`: what it reads, what it decides, what it trains, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxrl.cli import compare, main
from jaxrl.cli.compare import UNDECIDED

ROOT = Path(__file__).parents[2]


def needs_adastop():
    pytest.importorskip("adastop")


def write_run(path, agent, seed, returns, task="walker-walk", steps=100, options=(), **settings):
    """A run folder with evaluations at even steps, the last one at the end."""
    path.mkdir(parents=True)
    command = ["jaxrl", "train", agent, task, *options, "--seed", str(seed), "--out", str(path)]
    config = {
        "env_id": task,
        "exp_name": agent,
        "seed": seed,
        "command": " ".join([*command, "--overwrite"]),
        "git_commit": "abc",
        "agent": {"width": 8, **settings},
        "run": {"steps": steps, "seed": seed, "out": str(path)},
    }
    (path / "config.json").write_text(json.dumps(config))
    grid = np.linspace(0, 100, len(returns)).astype(int).tolist()
    lines = [
        {"global_step": s, "wall_time": s / 10, "eval/return_mean": r}
        for s, r in zip(grid, returns, strict=True)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def runs_of(agent, level, seeds, **options):
    """Runs whose final returns lie around `level`."""
    noise = np.random.default_rng(7).normal(size=50)
    return [
        str(write_run(Path(f"{agent}{level}_{s}"), agent, s, [0.0, level + noise[s]], **options))
        for s in seeds
    ]


def refused(capfd, *arguments):
    assert main(["compare", *map(str, arguments)]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.removeprefix("jaxrl: ").strip()


def test_decides_from_what_is_there(capfd):
    needs_adastop()
    given = runs_of("gqn", 900, range(5)) + runs_of("decqn", 500, range(5))
    assert main(["compare", *given]) == 0
    said = capfd.readouterr().out
    assert said.startswith("walker-walk: final return\n  decqn  499.")
    assert "(n = 5)" in said
    assert "\n  decqn < gqn\n" in said


def test_says_what_is_missing_to_decide(capfd):
    needs_adastop()
    given = runs_of("gqn", 500, range(6)) + runs_of("decqn", 500.5, range(5))
    assert main(["compare", *given]) == UNDECIDED
    said = capfd.readouterr().out
    assert "\n  decqn ? gqn\n" in said
    assert said.endswith("needs more runs (5 of decqn, 4 of gqn; --train trains them)\n")


def test_settings_tell_agents_apart(capfd):
    needs_adastop()
    given = runs_of("gqn", 900, range(5), width=16) + runs_of("gqn", 500, range(5), width=64)
    assert main(["compare", *given]) == 0
    assert "gqn, width 16 > gqn, width 64" in capfd.readouterr().out


def test_scores_by_area_and_by_the_end_differ(capfd):
    needs_adastop()
    for s in range(5):
        write_run(Path(f"runs/early{s}"), "early", s, [800.0 + s, 800.0 + s, 500.0 + s])
        write_run(Path(f"runs/late{s}"), "late", s, [0.0 + s, 0.0 + s, 900.0 + s])
    assert main(["compare", "runs"]) == 0
    assert "early < late" in capfd.readouterr().out
    assert main(["compare", "runs", "--score", "area"]) == 0
    assert "early > late" in capfd.readouterr().out


def test_several_tasks_are_put_together_if_normalised(capfd):
    needs_adastop()
    for s in range(5):
        for task, level in (("walker-walk", 600.0), ("walker-run", 200.0)):
            write_run(Path(f"runs/a_{task}{s}"), "a", s, [0.0, level + s], task=task)
            write_run(Path(f"runs/b_{task}{s}"), "b", s, [0.0, level + 50 + s], task=task)
    said = refused(capfd, "runs")
    assert said == (
        "the runs are of several tasks (walker-run; walker-walk): compare one at a time, or give "
        "--normalise"
    )
    assert main(["compare", "runs", "--normalise"]) == 0
    said = capfd.readouterr().out
    assert "walker-run; walker-walk: final return, normalised" in said
    assert "a  0.402 ± 0.001581 (n = 5)" in said
    assert "a < b" in said


def test_a_seed_that_lacks_a_task_is_named(capfd):
    write_run(Path("runs/a0"), "a", 0, [0.0, 1.0])
    write_run(Path("runs/a1"), "a", 0, [0.0, 1.0], task="walker-run")
    write_run(Path("runs/a2"), "a", 1, [0.0, 1.0])
    said = refused(capfd, "runs", "--normalise")
    assert said == "a has no run of walker-run with seed 1"


def test_another_run_of_a_seed_does_not_replace_its_score(capfd):
    """Nor where it diverged, and a diverged one would count as failed."""
    given = runs_of("gqn", 900, range(5)) + runs_of("decqn", 500, range(5))
    twin = write_run(Path("twin"), "gqn", 0, [0.0, float("nan")])
    assert "twin has no score (same seed as " in refused(capfd, *given, str(twin), "--worst", "0")


def test_a_task_of_ones_own_is_normalised_by_a_reference_that_is_given(capfd):
    given = [str(write_run(Path("r") / str(i), "gqn", i, [0.0, 5.0], task="mine")) for i in (0, 1)]
    said = refused(capfd, *given, "--normalise")
    assert said == (
        "mine has no reference score to normalise by: --reference TASK=LOW:HIGH gives one"
    )
    said = refused(capfd, *given, "--normalise", "--reference", "mien=0:10")
    assert said == "--reference mien=0:10: no run is of 'mien'; there are: mine"
    said = refused(capfd, *given, "--normalise", "--reference", "mine=0:10")
    assert said == "a comparison needs two agents, got gqn"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused_or_counts_as_failed(capfd, bad):
    given = runs_of("gqn", 900, range(5)) + runs_of("decqn", 500, range(4))
    given += [str(write_run(Path("bad"), "decqn", 4, [0.0, bad]))]
    assert refused(capfd, *given).endswith("--worst RETURN counts such a run as failed")
    needs_adastop()
    assert main(["compare", *given, "--worst", "0"]) == 0
    assert "decqn < gqn" in capfd.readouterr().out


def test_damaged_lines_are_told_of_and_do_not_count(capfd):
    needs_adastop()
    given = runs_of("gqn", 900, range(5)) + runs_of("decqn", 500, range(5))
    with (Path(given[0]) / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 100, "eval/ret')
    assert main(["compare", *given]) == 0
    said = capfd.readouterr().out
    assert "metrics.jsonl cut short: 1 of 5 runs" in said
    assert "decqn < gqn" in said


def test_what_cannot_be_compared_is_named(capfd, monkeypatch):
    assert refused(capfd, "nowhere").startswith("nowhere does not exist")
    write_run(Path("cut"), "gqn", 9, [0.0, 1.0], steps=400)
    write_run(Path("none"), "gqn", 8, [])
    others = runs_of("decqn", 5, range(2))
    assert "cut has no score (unfinished: 100 of 400 steps)" in refused(capfd, "cut", *others)
    assert "none has no score (no evaluation)" in refused(capfd, "none", *others)
    monkeypatch.setitem(sys.modules, "adastop", None)
    assert "pip install 'jaxrl[stats]'" in refused(capfd, *others, *runs_of("gqn", 5, range(2)))


def test_one_agent_and_too_few_runs_are_refused(capfd):
    needs_adastop()
    few = runs_of("gqn", 9, range(2))
    assert refused(capfd, *few) == "a comparison needs two agents, got gqn"
    said = refused(capfd, *few, *runs_of("decqn", 9, range(5)))
    assert said == (
        "too few runs: a look takes --group-size 5 seeds of each agent, and missing are 3 of gqn; "
        "--train trains them"
    )


class Trainer:
    """Stands in for `python -m jaxrl train`: writes the run that was asked for."""

    def __init__(self, levels, code=0, **settings):
        self.levels, self.code, self.settings = levels, code, settings
        self.commands = []

    def __call__(self, command):
        assert command[:3] == [sys.executable, "-m", "jaxrl"]
        words = command[3:]
        self.commands.append(words)
        if self.code:
            return SimpleNamespace(returncode=self.code)
        agent, task = words[1:3]
        seed, out = (words[words.index(name) + 1] for name in ("--seed", "--out"))
        value = self.levels[agent] + np.random.default_rng(int(seed)).normal()
        write_run(Path(out), agent, int(seed), [0.0, value], task, **self.settings)
        return SimpleNamespace(returncode=0)


def test_trains_what_is_missing_one_group_at_a_time(capfd, monkeypatch):
    needs_adastop()
    trainer = Trainer({"gqn": 900, "decqn": 500})
    monkeypatch.setattr(compare.subprocess, "run", trainer)
    options = ["--lr", "1e-3", "--no-video"]
    given = runs_of("gqn", 900, [3], options=options) + runs_of("decqn", 500, range(4))
    assert main(["compare", *given, "--train", "--out", "more"]) == 0
    assert "decqn < gqn" in capfd.readouterr().out
    (decqn, *gqn) = trainer.commands
    assert decqn[:5] == ["train", "decqn", "walker-walk", "--seed", "4"]
    assert [words[words.index("--seed") + 1] for words in gqn] == ["4", "5", "6", "7"]
    assert gqn[0][:6] == ["train", "gqn", "walker-walk", *options]
    assert gqn[0].count("--seed") == gqn[0].count("--out") == 1
    assert "--overwrite" not in gqn[0]
    assert gqn[0][-1] == "--resume"
    trainer.commands.clear()  # the same command again finds these runs
    assert main(["compare", *given, "--train", "--out", "more"]) == 0
    assert trainer.commands == []


def test_trains_until_it_decides(monkeypatch, capfd):
    """Equal agents take every look: three groups of five each."""
    needs_adastop()
    trainer = Trainer({"gqn": 500, "decqn": 500})
    monkeypatch.setattr(compare.subprocess, "run", trainer)
    given = runs_of("gqn", 500, [0]) + runs_of("decqn", 500, [0])
    assert main(["compare", *given, "--train", "--groups", "3"]) == 0
    assert "decqn no difference found from gqn" in capfd.readouterr().out
    assert len(trainer.commands) == 2 * 14


@pytest.mark.parametrize("code", [75, 1, -9])
def test_ends_with_the_code_of_a_training_that_ended(monkeypatch, capfd, code):
    needs_adastop()
    monkeypatch.setattr(compare.subprocess, "run", Trainer({}, code=code))
    given = runs_of("gqn", 500, [0]) + runs_of("decqn", 500, [0])
    assert main(["compare", *given, "--train"]) == (code if code > 0 else 1)
    assert capfd.readouterr().err == "jaxrl: training ended; the same command goes on\n"


def test_runs_of_changed_defaults_are_not_pooled(monkeypatch, capfd):
    needs_adastop()
    monkeypatch.setattr(compare.subprocess, "run", Trainer({"decqn": 1, "gqn": 1}, width=99))
    given = runs_of("gqn", 500, [0]) + runs_of("decqn", 500, [0])
    assert main(["compare", *given, "--train"]) == 2
    assert "width 99" in capfd.readouterr().err


def test_only_a_train_command_is_repeated(monkeypatch, capfd):
    needs_adastop()
    monkeypatch.setattr(compare.subprocess, "run", Trainer({}))
    given = runs_of("gqn", 500, [0]) + runs_of("decqn", 500, [0])
    for path in map(Path, given):
        text = (path / "config.json").read_text()
        (path / "config.json").write_text(text.replace("jaxrl train", "python mine.py"))
    assert refused(capfd, *given, "--train").endswith("--train repeats `jaxrl train` only")


def test_comparing_needs_no_jax():
    program = (
        "import sys; sys.modules['jax'] = None; from jaxrl.cli import main; "
        "sys.exit(main(['compare', 'nowhere']))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr[:24]) == (2, "jaxrl: nowhere does not ")
