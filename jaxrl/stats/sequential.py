"""How many seeds are enough: AdaStop's sequential permutation test of several agents.

Mathieu et al., "AdaStop: adaptive statistical testing for sound comparisons of Deep RL agents",
TMLR 2024 (arXiv 2306.10882), by its own package (extra `stats`).
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from jaxrl.errors import UsageError

Verdict = Literal["larger", "smaller", "equal", "continue"]
"""Of the first agent's mean against the second's. "equal" says that no difference was found after
the last group; "continue" that more scores are needed."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """About one pair of agents."""

    first: str
    second: str
    verdict: Verdict


class AdaStop:
    """A comparison of the means of all pairs of agents, one group of scores after the other.

    `alpha` is the chance to find a difference where there is none, in any pair and at any look.
    adastop 0.1.3 compares a two-sided statistic with the one-sided distribution of its
    permutations, so that its level comes out twice as large as asked for; it is asked for half. For
    three agents 0.05 still came out as 0.07 (docs/statistics.md).

    Args:
      agents: their names, two or more.
      group_size: new scores of each agent between two looks, n.
      groups: looks at most, K.
      permutations: drawn at random where there are more than these.

    Raises:
      UsageError: the package is not there, or these numbers can never show a difference.
    """

    def __init__(
        self,
        agents: Sequence[str],
        group_size: int = 5,
        groups: int = 5,
        alpha: float = 0.05,
        permutations: int = 10_000,
        seed: int = 0,
    ):
        if len(set(agents)) < 2:
            raise UsageError(f"a comparison needs two agents, got {', '.join(agents) or 'none'}")
        if group_size < 1 or groups < 1 or permutations < 1:
            raise UsageError(
                "group size, groups and permutations must be at least 1, got "
                f"{group_size}, {groups} and {permutations}"
            )
        if not 0 < alpha < 1:
            raise UsageError(f"alpha must be between 0 and 1, got {alpha}")
        if seed < 0 or seed >= 2**32:
            raise UsageError(f"the seed must be in [0, 2^32), got {seed}")
        ways = min(permutations, math.comb(2 * group_size, group_size) ** groups)
        if 1 / ways > alpha / 2:
            raise UsageError(
                f"{groups} groups of {group_size} with {permutations} permutations can never show "
                f"a difference at alpha {alpha:g}: take larger groups or more permutations"
            )
        try:
            package = importlib.import_module("adastop")
        except ImportError as error:
            raise UsageError(
                f"AdaStop needs the extra: pip install 'jaxrl[stats]' ({error})"
            ) from None
        self.agents = tuple(agents)
        self.group_size, self.groups = group_size, groups
        self._test = package.MultipleAgentsComparator(
            n=group_size, K=groups, B=permutations, alpha=alpha / 2, seed=seed
        )

    @property
    def finished(self) -> bool:
        """Whether every pair is decided."""
        return bool(self._test.is_finished)

    def wanted(self) -> dict[str, int]:
        """Scores that the agents which are still compared need at the next look, from the first."""
        if self.finished:
            return {}
        size = self.group_size * (self._test.k + 1)
        if self._test.k == 0:
            return dict.fromkeys(self.agents, size)
        compared = {self.agents[i] for i in np.ravel(self._test.current_comparisons)}
        return {name: size for name in self.agents if name in compared}

    def look(self, scores: Mapping[str, Sequence[float]]) -> list[Decision]:
        """Looks at the scores, in the order in which they were drawn, and decides what it can.

        Raises:
          UsageError: an agent has too few scores, or one that is not finite.
        """
        values = {}
        for name in self.agents:
            size = self.wanted().get(name, 0)
            x = np.asarray(scores[name], dtype=np.float64)
            if len(x) < size:
                raise UsageError(f"{name} has {len(x)} scores, and this look needs {size}")
            if not np.isfinite(x).all():
                raise UsageError(f"{name} has a score that is not finite")
            values[name] = x
        self._test.partial_compare(values, verbose=False)
        return self.decisions()

    def decisions(self) -> list[Decision]:
        """What is known of each pair after the last look."""
        found = []
        for pair in self._test.comparisons:
            first, second = (self.agents[i] for i in pair)
            found.append(Decision(first, second, self._test.decisions[str(pair)]))
        return found
