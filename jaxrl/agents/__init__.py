"""Agents by name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from jaxrl.errors import UsageError

if TYPE_CHECKING:
    from jaxrl.envs.core import EnvSpec


def defaults() -> dict[str, Any]:
    """Every agent's default hyperparameters by its name on the command line."""
    return {**online(), **offline()}


def online() -> dict[str, Any]:
    """Those that learn from what they do."""
    from jaxrl.agents.crl import CRL, SGCRL
    from jaxrl.agents.gqn import GQN
    from jaxrl.agents.sac import SAC

    return {"gqn": GQN(), "decqn": GQN(bins=(2,)), "sac": SAC(), "crl": CRL(), "sgcrl": SGCRL}


def offline() -> dict[str, Any]:
    """Those that learn from a dataset."""
    from jaxrl.agents.bc import BC
    from jaxrl.agents.cfpi import CFPI
    from jaxrl.agents.diffusion_ql import DiffusionQL
    from jaxrl.agents.eda import EDA
    from jaxrl.agents.fql import FQL
    from jaxrl.agents.idql import IDQL
    from jaxrl.agents.iql import IQL
    from jaxrl.agents.td3_bc import TD3BC

    return {
        "bc": BC(),
        "iql": IQL(),
        "td3_bc": TD3BC(),
        "cfpi": CFPI(),
        "eda": EDA(),
        "idql": IDQL(),
        "fql": FQL(),
        "diffusion_ql": DiffusionQL(),
    }


def is_offline(agent: Any) -> bool:
    """Whether the agent learns from a dataset."""
    return getattr(agent, "offline", False)


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


def bound(agent: Any, spec: EnvSpec) -> Any:
    """The agent, knowing what it must of the task; most agents need nothing.

    Raises:
      UsageError: the agent cannot learn this task, or a hyperparameter is no number to learn with.
    """
    from jaxrl.agents._common import check_numbers

    check_numbers(agent)
    return agent.bind(spec) if hasattr(agent, "bind") else agent
