"""How often AdaStop finds a difference between equal agents: the package, and as we call it.

    python benchmarks/adastop_level.py

Needs the extra `stats`. Normal scores, groups of five, level 0.05, 500 comparisons per row. Writes
benchmarks/results/adastop_level.json.
"""

from __future__ import annotations

import numpy as np
from adastop import MultipleAgentsComparator
from provenance import ROOT, described

from jaxrl import atomic
from jaxrl.stats.sequential import AdaStop

COMPARISONS, SIZE, ALPHA, PERMUTATIONS = 500, 5, 0.05, 400


def package(names: list[str], groups: int, rng: np.random.Generator, seed: int) -> bool:
    """Whether the package itself, asked for `ALPHA`, finds a difference."""
    test = MultipleAgentsComparator(n=SIZE, K=groups, B=PERMUTATIONS, alpha=ALPHA, seed=seed)
    scores = {name: np.empty(0) for name in names}
    while not test.is_finished:
        scores = {name: np.append(x, rng.normal(size=SIZE)) for name, x in scores.items()}
        test.partial_compare(scores, verbose=False)
    return any(verdict != "equal" for verdict in test.decisions.values())


def ours(names: list[str], groups: int, rng: np.random.Generator, seed: int) -> bool:
    """Whether `AdaStop` finds one."""
    test = AdaStop(names, SIZE, groups, ALPHA, PERMUTATIONS, seed)
    scores = {name: np.empty(0) for name in names}
    while not test.finished:
        scores = {name: np.append(x, rng.normal(size=SIZE)) for name, x in scores.items()}
        test.look(scores)
    return any(decision.verdict != "equal" for decision in test.decisions())


def main() -> None:
    """Simulates and prints."""
    result = {"command": "python benchmarks/adastop_level.py"}
    result |= described("numpy", "pandas", "adastop")
    rows = []
    print(f"{'agents':<8}{'groups':<8}{'package':>9}{'ours':>8}")
    for agents, groups in ((2, 1), (2, 5), (3, 1)):
        names = list("abc")[:agents]
        found = {}
        for call in (package, ours):
            errors = [
                call(names, groups, np.random.default_rng([agents, groups, i]), i)
                for i in range(COMPARISONS)
            ]
            found[call.__name__] = float(np.mean(errors))
        rows.append({"agents": agents, "groups": groups, **found})
        print(f"{agents:<8}{groups:<8}{found['package']:>9.3f}{found['ours']:>8.3f}", flush=True)
    about = {"level": ALPHA, "comparisons": COMPARISONS, "permutations": PERMUTATIONS}
    path = ROOT / "benchmarks" / "results" / "adastop_level.json"
    atomic.write_json(path, {**result, **about, "rows": rows})


if __name__ == "__main__":
    main()
