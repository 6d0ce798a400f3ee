"""Options of the compiler by which tests take less time; nothing here imports jax."""

from __future__ import annotations

from importlib.metadata import version

OLD = version("jaxlib").startswith("0.10.")
"""It has fusion emitters and may go without them; 0.12 has no choice."""

FLAGS = "--xla_cpu_use_fusion_emitters=false" if OLD else ""
"""Takes a third of the time to compile, measured on a small run of SAC."""

EMITTERS = {"xla_cpu_use_fusion_emitters": True} if OLD else {}
"""Compiler options of a program with the fusion emitters that users' programs have. Without them
rounding depends on what is fused, and a scatter is not written in place."""
