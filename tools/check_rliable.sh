#!/usr/bin/env bash
# Compares jaxrl.stats with rliable 1.2.0, which needs old versions of its dependencies, in an
# environment of its own (.venv-rliable). Arguments, if any, replace the tests:
#
#   tools/check_rliable.sh                                     the tests
#   tools/check_rliable.sh benchmarks/stats_speed.py           the benchmark, side by side
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-rliable
if [ ! -e "$venv/.installed" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    'rliable==1.2.0' 'pandas<3' 'arch<8' 'numpy>=2' pytest
  touch "$venv/.installed"
fi
if [ $# = 0 ]; then
  set -- -m pytest -q tests/stats/test_rliable.py
fi
export OPENBLAS_NUM_THREADS=1  # a thread that waits would count as processor time, too
PYTHONPATH=$PWD exec "$venv/bin/python" "$@"
