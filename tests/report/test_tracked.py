"""Tracked runs: what is kept, what is refused, and which edits of the code change their hash."""

from __future__ import annotations

import pytest

from jaxrl.errors import UsageError
from jaxrl.report import tracked

CONFIG = {"command": "jaxrl train gqn walker-walk", "git_commit": "abc", "env_id": "walker-walk"}
METRICS = [
    {"global_step": 0, "wall_time": 0.1, "eval/return_mean": 1.23456789, "losses/loss": 3.0},
    {"global_step": 8, "wall_time": 0.2, "losses/loss": 2.0},
    {"global_step": 16, "wall_time": 0.3, "eval/return_mean": 4.0, "charts/episodic_return": 5},
]


def test_keeps_the_evaluations_and_reads_them_back(tmp_path):
    path = tmp_path / "deep" / "run.jsonl"
    tracked.write(path, CONFIG, METRICS, code="c0de")
    config, metrics = tracked.read(path)
    assert config == {**CONFIG, "code": "c0de"}
    assert metrics == [
        {"global_step": 0, "wall_time": 0.1, "eval/return_mean": 1.23457},
        {
            "global_step": 16,
            "wall_time": 0.3,
            "eval/return_mean": 4.0,
            "charts/episodic_return": 5.0,
        },
    ]


@pytest.mark.parametrize("key", ["command", "git_commit"])
@pytest.mark.parametrize("value", [None, "", "unknown"])
def test_refuses_a_run_that_nobody_can_make_again(tmp_path, key, value):
    path = tmp_path / "run.jsonl"
    with pytest.raises(UsageError, match=key):
        tracked.write(path, {**CONFIG, key: value}, METRICS, code="c0de")
    assert not path.exists()
    path.write_text('{"command": "x"}\n')
    with pytest.raises(UsageError, match="git_commit"):
        tracked.read(path)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"command"')
    with pytest.raises(UsageError, match=r"run\.jsonl"):
        tracked.read(path)


def test_the_hash_changes_with_what_is_computed_and_with_nothing_else(tmp_path):
    path = tmp_path / "module.py"

    def of(text: str) -> str:
        path.write_text(text)
        return tracked.code_hash([path])

    code = of(
        '"""Doc."""\nclass A:\n    x: int = 1\n    """One."""\n    def f(self):\n        return 2\n'
    )
    same = of(
        "# why\nclass A:\n    x: int = 1\n\n    def f(self):\n        'other'\n        return 2\n"
    )
    other = of("class A:\n    x: int = 1\n    def f(self):\n        return 3\n")
    assert code == same
    assert code != other
