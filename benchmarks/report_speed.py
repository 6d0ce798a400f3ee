"""How fast the report opens: a hundred runs of a thousand evaluations in headless Chromium.

    python benchmarks/report_speed.py

Prints and writes benchmarks/results/report_speed.json: seconds to write the page, its size, and
seconds from the start of its loading until every chart is drawn, the median and the worst of ten.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from jaxrl import atomic  # noqa: E402
from jaxrl.report import page  # noqa: E402
from jaxrl.report.runs import METRIC, collect  # noqa: E402
from jaxrl.report.summary import Summary  # noqa: E402
from jaxrl.train import runlog  # noqa: E402
from tests.report import samples  # noqa: E402
from tests.report.browser import chromium  # noqa: E402

TASKS = ("walker-walk", "walker-run", "finger-spin", "cheetah-run", "fish-swim")
AGENTS, SEEDS, POINTS, REPEATS = ("a", "b", "c", "d"), 5, 1000, 10
SINCE_START = "performance.now()"
ALL_DRAWN = f"document.querySelectorAll('#curves-grid .frame svg').length === {len(TASKS)}"


def main() -> None:
    """Measures, prints, writes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = samples.runs(Path(scratch) / "runs", TASKS, AGENTS, SEEDS, POINTS)
        began = time.perf_counter()
        summary = Summary(tuple(collect([folder])))
        read = time.perf_counter() - began
        path = Path(scratch) / "report.html"
        page.write(path, summary, "Speed", METRIC)
        written = time.perf_counter() - began - read
        size = path.stat().st_size
        with chromium(Path(scratch) / "profile") as browser:
            version = browser.call("Browser.getVersion")["product"]
            opened, filtered = [], []
            for _ in range(REPEATS):
                browser.open(path)
                browser.wait(ALL_DRAWN)
                opened.append(browser.evaluate(f"{SINCE_START} / 1000"))
                filtered.append(
                    browser.evaluate(
                        "(() => { const t = performance.now();"
                        "document.querySelector('#filter-seeds input').click();"
                        "return (performance.now() - t) / 1000; })()"
                    )
                )
            assert not browser.complaints, browser.complaints
    result = {
        "command": "python benchmarks/report_speed.py",
        "commit": runlog.git_commit(),
        "versions": {"numpy": metadata.version("numpy"), "browser": version},
        "device": {"kind": runlog.processor(), "cores": os.cpu_count()},
        "load_average": round(os.getloadavg()[0], 1),
        "runs": len(summary.runs),
        "points": POINTS,
        "page_megabytes": round(size / 1e6, 2),
        "seconds_to_read_the_runs": round(read, 2),
        "seconds_to_write_the_page": round(written, 2),
        "seconds_to_open_median": round(statistics.median(opened), 2),
        "seconds_to_open_worst": round(max(opened), 2),
        "seconds_to_filter_median": round(statistics.median(filtered), 2),
    }
    for name, value in result.items():
        print(f"{name:<28} {value}")
    target = ROOT / "benchmarks" / "results" / "report_speed.json"
    atomic.write_json(target, result)


if __name__ == "__main__":
    main()
