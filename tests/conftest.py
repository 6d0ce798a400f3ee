"""Before jax starts: a pool of threads in which tests of mjx do not wait for themselves."""

import os

from jaxrl.envs.physics.engines import THREADS

os.environ.setdefault("NPROC", str(THREADS))  # see `engines._ask_for_threads`
