"""On several hosts a preemption notice to one of them stops all of them at the same iteration."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

HOST = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from jaxrl.train.signals import StopSignals

signals, iteration = StopSignals(), 0
print("ready", flush=True)
while not signals.asked_to_stop(iteration) and iteration < 3000:
    iteration += 1
    sum(range(300_000))  # an iteration's work
print(signals.came, iteration, flush=True)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_notice_to_one_host_stops_all_at_one_iteration():
    address = f"127.0.0.1:{free_port()}"
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, address, str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for i in (0, 1)
    ]
    try:
        for host in hosts:
            assert host.stdout.readline() == "ready\n"
        hosts[1].send_signal(signal.SIGTERM)
        stops = [host.stdout.readline().split() for host in hosts]
    finally:
        for host in hosts:
            host.kill()
            host.wait()
    assert [why for why, _ in stops] == ["preemption", "preemption"]
    assert stops[0][1] == stops[1][1]
    assert 0 < int(stops[0][1]) < 3000
