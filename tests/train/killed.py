"""A run that gets a signal at a chosen moment, to the call.

    python -m tests.train.killed SIGKILL physics 700 train gqn cartpole-swingup --steps ...

kills it just before the 700th call of the engine.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

from jaxrl.cli import main
from jaxrl.envs.physics.native import Native
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.offline import Offline
from jaxrl.train.runlog import MetricsWriter

MOMENTS = {
    "physics": (Native, "_roll"),  # inside a compiled chunk or an evaluation
    "metrics": (MetricsWriter, "write"),  # between two chunks
    "writing": (Checkpoints, "wait"),  # while a checkpoint is being written
    "piece": (Offline, "_fetch"),  # while the device learns from a dataset
}


def strike(number: signal.Signals, moment: str, count: int) -> None:
    """Sends the signal to this process just before the `count`-th call at that moment."""
    owner, name = MOMENTS[moment]
    real = getattr(owner, name)
    calls = itertools.count(1)

    def call(*arguments, **options):
        if next(calls) == count:
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    setattr(owner, name, call)


if __name__ == "__main__":
    strike(signal.Signals[sys.argv[1]], sys.argv[2], int(sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
