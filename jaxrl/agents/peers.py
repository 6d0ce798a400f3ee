"""Whole configurations of peers: what `--peer-settings` sets, of the agent and of the loop.

Options given beside it win. The run's length is not among them; nor are the peers' defects: the
logsumexp is penalised on the loss's own axis (JaxGCRL: always among goals), and every episode has
a new goal (JaxGCRL keeps an instance's first; `--frozen-starts` does that). Evaluations take the
policy's mode, as JaxGCRL's code of today does; its paper's code sampled the policy
(`deterministic_eval=False` in src/train.py of the branch anonymize-v2), as `jaxrl eval --explore`
does. The policy's last layer is the package's own: it starts in the middle where JaxGCRL's starts
within about 0.1 of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Peer:
    """One configuration. Sizes of replay are per instance."""

    source: str
    """Where it is written."""
    agent: dict[str, Any]
    """Hyperparameters by name."""
    num_envs: int
    """Instances, N."""
    capacity: int
    """Rows of replay per instance."""
    learning_starts: int
    """Rows per instance before the first update."""
    env_steps_per_update: int
    """Environment steps per gradient step, over all instances."""

    def run(self, num_envs: int | None = None) -> dict[str, int]:
        """Settings of the loop, for another number of instances if one is given."""
        instances = num_envs or self.num_envs
        return {
            "num_envs": instances,
            "capacity": self.capacity * instances,
            "learning_starts": self.learning_starts * instances,
            "env_steps_per_update": self.env_steps_per_update,
        }


JAXGCRL = {
    "actor_learning_rate": 3e-4,
    "critic_learning_rate": 3e-4,
    "temperature_learning_rate": 3e-4,
    "discount": 0.99,
    "logsumexp_penalty": 0.1,
    "entropy_per_action": -0.5,
    "mortal": False,
    "random_goals": 0.0,
    "commanded_goals": 0.0,
    "energy": "l2",
    "loss": "forward",
    "critics": 1,
    "width": 256,
    "depth": 2,
    "representation": 64,
    "layer_norm": False,
    "activation": "swish",
    "networks": "jaxgcrl",
    "entropy": True,
    "initial_random": False,
    "single_goal": False,
    "batch_size": 256,
}
"""Defaults of JaxGCRL's code. One update per 16 steps: of N (L - 1) / 256 minibatches after 62 N
steps, with episodes of L = 1001."""

SGCRL = {
    **JAXGCRL,
    "logsumexp_penalty": 0.01,
    "random_goals": 0.5,
    "energy": "dot",
    "activation": "relu",
    "networks": "sgcrl",
    "entropy": False,
    "initial_random": True,
    "single_goal": True,
}
"""Defaults of SGCRL's code."""

PEERS: dict[str, dict[str, Peer]] = {
    "crl": {
        "code": Peer("github MichalBortkiewicz/JaxGCRL@6dccab2", JAXGCRL, 256, 10_000, 1000, 16),
        "script": Peer(
            "the same, scripts/train.sh", {**JAXGCRL, "loss": "backward"}, 512, 10_000, 1000, 16
        ),
        "paper": Peer(
            "arXiv 2408.11052, Table 2",
            {**JAXGCRL, "loss": "symmetric", "actor_learning_rate": 6e-4},
            1024,
            10_000,
            1000,
            16,
        ),
    },
    "sgcrl": {"code": Peer("github graliuce/sgcrl@2d1b59d", SGCRL, 4, 250_000, 2500, 1)},
}
"""By the agent's name and the name of the settings."""
