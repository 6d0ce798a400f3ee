"""Runs of these tests compile quickly, and equal programs once."""

from tests.train.compiling import quick_compilation  # noqa: F401
