"""Agents by name."""

from __future__ import annotations

import difflib
from typing import Any

from jaxrl.errors import UsageError


def defaults() -> dict[str, Any]:
    """Every agent's default hyperparameters by its name on the command line."""
    from jaxrl.agents.gqn import GQN
    from jaxrl.agents.sac import SAC

    return {"gqn": GQN(), "decqn": GQN(bins=(2,)), "sac": SAC()}


def default(name: str) -> Any:
    """The default hyperparameters of agent `name`.

    Raises:
      UsageError: there is no such agent.
    """
    agents = defaults()
    if name not in agents:
        near = difflib.get_close_matches(name, agents, n=1, cutoff=0.0)[0]
        raise UsageError(
            f"unknown agent {name!r}; did you mean {near!r}? There are: {', '.join(agents)}"
        )
    return agents[name]
