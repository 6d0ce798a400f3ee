"""docs/diffusion.md does what it says: its code is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from jaxrl import diffusion

PAGE = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text()


def test_the_page_trains_a_policy_in_proportion_to_exp_q():
    """Shares of the eight actions as exp(Q), on them and within the bounds; losses that fell."""
    names: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(code, names)
    wanted = np.exp(names["q"]) / np.exp(names["q"]).sum()
    share = np.bincount(names["nearest"], minlength=8) / len(names["nearest"])
    assert np.ptp(wanted) > 0.2  # imitation alone would give an eighth to each
    np.testing.assert_allclose(share, wanted, atol=0.035)
    distance = np.linalg.norm(names["action"] - names["modes"][names["nearest"]], axis=-1)
    assert np.median(distance) < 0.12
    assert np.abs(names["action"]).max() <= 1
    assert names["losses"][-200:].mean() < 0.6 * names["losses"][:20].mean()


def test_the_page_names_what_there_is():
    named = set(re.findall(r"`(?:diffusion\.)?(\w+)(?:\(.*?\))?`", PAGE))
    assert set(diffusion.__all__) <= named, set(diffusion.__all__) - named
