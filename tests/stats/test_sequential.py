"""AdaStop: what it decides, after how many scores, and how often it errs."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from jaxrl.errors import UsageError
from jaxrl.stats.sequential import AdaStop, Decision


def test_the_extra_is_named_where_the_package_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "adastop", None)
    with pytest.raises(UsageError, match=r"pip install 'jaxrl\[stats\]'"):
        AdaStop(["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"agents": ["a"]}, "needs two agents, got a"),
        ({"group_size": 0}, "at least 1, got 0, 5 and 10000"),
        ({"alpha": 1.5}, "alpha must be between 0 and 1, got 1.5"),
        ({"seed": -1}, r"seed must be in \[0, 2\^32\), got -1"),
        ({"group_size": 2, "groups": 1}, "can never show a difference at alpha 0.05"),
        ({"permutations": 20}, "can never show a difference"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(UsageError, match=said):
        AdaStop(**{"agents": ["a", "b"], **arguments})


class TestPackage:
    """With the package itself."""

    @pytest.fixture(autouse=True)
    def needs_it(self):
        pytest.importorskip("adastop")

    def test_far_apart_agents_are_told_apart_at_the_first_look(self):
        test = AdaStop(["low", "high"])
        assert test.wanted() == {"low": 5, "high": 5}
        found = test.look({"low": np.arange(5.0), "high": np.arange(5.0) + 100})
        assert found == [Decision("low", "high", "smaller")]
        assert (test.finished, test.wanted()) == (True, {})

    def test_a_decided_agent_needs_no_more_scores(self):
        rng = np.random.default_rng(0)
        test = AdaStop(["a", "b", "far"], groups=2)
        scores = {"a": rng.normal(size=5), "b": rng.normal(size=5), "far": np.full(5, 50.0)}
        scores["far"] += rng.normal(size=5)
        found = {(d.first, d.second): d.verdict for d in test.look(scores)}
        assert found == {("a", "b"): "continue", ("a", "far"): "smaller", ("b", "far"): "smaller"}
        assert test.wanted() == {"a": 10, "b": 10}
        with pytest.raises(UsageError, match="a has 5 scores, and this look needs 10"):
            test.look(scores)
        more = {name: np.append(scores[name], rng.normal(size=5)) for name in "ab"}
        assert Decision("a", "b", "equal") in test.look({**scores, **more})
        assert test.finished

    def test_only_the_scores_of_this_look_count(self):
        """A score that comes early does not change what was decided without it."""
        rng = np.random.default_rng(1)
        scores = {"a": rng.normal(size=10), "b": rng.normal(size=10)}
        whole, parts = AdaStop(["a", "b"], groups=2), AdaStop(["a", "b"], groups=2)
        parts.look({name: x[:5] for name, x in scores.items()})
        assert whole.look(scores) == parts.decisions()
        assert whole.look(scores) == parts.look(scores)

    def test_a_score_that_is_not_finite_is_refused(self):
        with pytest.raises(UsageError, match="b has a score that is not finite"):
            AdaStop(["a", "b"]).look({"a": [1.0] * 5, "b": [1.0, 2.0, 3.0, 4.0, np.nan]})

    def test_its_level_is_the_one_asked_for(self):
        """Of all 20 ways to deal six scores to two equal agents, 4 may differ at level 0.2. Asked
        for 0.2 itself, the package finds 8 (benchmarks/results/adastop_level.json has more)."""
        scores = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
        found = 0
        for dealt in itertools.combinations(range(6), 3):
            mine = np.isin(np.arange(6), dealt)
            test = AdaStop(["a", "b"], group_size=3, groups=1, alpha=0.2)
            (decision,) = test.look({"a": scores[mine], "b": scores[~mine]})
            found += decision.verdict != "equal"
        assert 1 <= found <= 4
