"""The page in Chromium: it loads and complains of nothing, filters act, the playback moves."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from jaxrl import stats
from jaxrl.report import page
from jaxrl.report.published import Published
from jaxrl.report.runs import METRIC, collect
from jaxrl.report.summary import Summary
from tests.report import samples
from tests.report.browser import chromium, needs_chromium

pytestmark = needs_chromium

ROWS = "[...document.querySelectorAll('tr.run')].map(r => r.querySelector('th').textContent)"
RESULTS = (
    "[...document.querySelectorAll('#results-table tr.result')]"
    ".map(r => r.textContent.replace(/\\s+/g, ' '))"
)
DRAWN = "[...document.querySelectorAll('#curves-grid .frame svg')].length"
MOMENT = "Number(document.querySelector('#player').dataset.moment)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with everything on it: three seeds, one seed, no reference, a published curve."""
    root = tmp_path_factory.mktemp("report")
    samples.runs(root / "runs")
    alone = samples.config("walker-walk", "crl", 7, 1000)
    samples.folder(root / "runs" / "alone", alone, samples.lines([1.0 * i for i in range(11)]))
    found = collect([root / "runs"])
    summary = Summary(tuple(found))
    x = np.array([0.0, 500.0, 1000.0])
    curve = Published("<b>P</b>", "walker-walk", {}, x, x / 2, 20.0, "A paper, Figure 1")
    theirs = {"walker-walk": [curve]}
    media = [(run, samples.recording()) for run in page.best(summary)]
    path = root / "report.html"
    page.write(path, summary, "Test </script><script>alert(1)</script>", METRIC, theirs, media)
    return path, summary


@pytest.fixture
def opened(browser, report):
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(report[0])
    yield browser
    assert browser.complaints == []
    assert [r for r in browser.requests if not r.startswith(("file:", "data:"))] == []


def test_it_shows_every_run_and_hides_none_by_accident(opened, report):
    _, summary = report
    assert len(opened.evaluate(ROWS)) == len(summary.runs) == 13
    assert len(opened.evaluate(RESULTS)) == 5
    assert opened.evaluate(DRAWN) == 2
    title = opened.evaluate("document.getElementById('title').textContent")
    assert title == "Test </script><script>alert(1)</script>"
    commands = opened.evaluate("document.getElementById('runs-table').textContent")
    assert all(run.config["command"] in commands for run in summary.runs)


def test_filters_change_rows_charts_and_numbers(opened):
    before = opened.evaluate(RESULTS)
    opened.click("#filter-seeds label:nth-of-type(1) input")  # without seed 0
    rows = opened.evaluate(ROWS)
    assert len(rows) == 9 and not any(name.endswith("_s0") for name in rows)
    after = opened.evaluate(RESULTS)
    assert all(a != b for a, b in zip(before, after, strict=True) if "n = 1" not in a)
    assert "9 of 13 runs" in opened.evaluate("document.getElementById('filter-state').textContent")
    opened.click("#filter-tasks label:nth-of-type(1) input")  # without cartpole-swingup
    assert opened.evaluate(DRAWN) == 1
    opened.click("#filter-agents label:nth-of-type(2) input")  # without gqn
    assert not any("gqn" in name for name in opened.evaluate(ROWS))
    opened.click("#reset")
    assert len(opened.evaluate(ROWS)) == 13
    assert opened.evaluate(RESULTS) == before


def test_one_seed_never_gets_an_interval(opened):
    (alone,) = [r for r in opened.evaluate(RESULTS) if "crl" in r]
    assert "n = 1" in alone and "[" not in alone
    for seed in (2, 3):  # leaves seeds 0 and 7
        opened.click(f"#filter-seeds label:nth-of-type({seed}) input")
    assert all("n = 1" in r and "[" not in r for r in opened.evaluate(RESULTS))
    across = opened.evaluate("document.querySelector('#across-body table').textContent")
    assert "n = 1" in across and "[" not in across
    bands = "document.querySelectorAll('#curves-grid path[opacity=\"0.16\"]').length"
    assert opened.evaluate(bands) == 1  # the published one


def test_numbers_of_a_part_are_those_of_python(opened, report):
    """The page's own statistics of the chosen runs against `Summary` of the same runs."""
    _, summary = report
    data = page.payload(summary, "", METRIC, {})
    scores = [[0.1, 0.35, 0.2], [0.6, 0.5, 0.9, 0.7]]
    call = f"Statistics.aggregate({json.dumps(scores)}, {json.dumps(data['t_quantiles'])})"
    found = opened.evaluate(call)
    ours = stats.Scores.of({"a": scores[0], "b": scores[1]})
    metrics = {"IQM": stats.iqm, "Median": stats.median, "Mean": stats.mean}
    for name, metric in (metrics | {"Optimality gap": stats.optimality_gap}).items():
        wanted = stats.aggregate(ours, metric, method="student", reps=50_000)
        point, low, high = found[name]
        assert point == pytest.approx(wanted.point, abs=1e-12)
        # 2000 resamples: the standard error of a standard deviation is 1.6 %.
        assert high - low == pytest.approx(wanted.high - wanted.low, rel=0.07), name
    cell = next(c for c in summary.cells if c.n == 3)
    call = f"Statistics.cell({cell.scores.tolist()}, {json.dumps(data['t_quantiles'])})"
    assert opened.evaluate(call) == pytest.approx(
        {"n": 3, "mean": cell.mean, "low": cell.interval[0], "high": cell.interval[1]}
    )
    taus = [0.0, 0.2, 0.35, 0.8]
    found = opened.evaluate(f"Statistics.profile({json.dumps(scores)}, {taus})")
    band = stats.run_score_profile(ours, taus, reps=20_000)
    assert found["point"] == pytest.approx(band.point.tolist())
    assert found["low"] == pytest.approx(band.low.tolist(), abs=0.13)  # a step is 1/8
    curves = [{"x": [0, 2, 4], "y": [0, 2, 0]}, {"x": [1, 3], "y": [5, 7]}]
    found = opened.evaluate(f"Statistics.aligned({json.dumps(curves)}, 5)")
    assert found == {"x": [1, 1.5, 2, 2.5, 3], "values": [[1, 1.5, 2, 1.5, 1], [5, 5.5, 6, 6.5, 7]]}


def test_published_curves_are_dashed_and_named(opened):
    dashed = "[...document.querySelectorAll('#curves-grid path[stroke-dasharray]')].length"
    assert opened.evaluate(dashed) == 1
    assert "A paper, Figure 1" in opened.evaluate(
        "document.getElementById('curves-text').textContent"
    )
    opened.click("#filter-published input")
    assert opened.evaluate(dashed) == 0


def test_curves_against_the_clock_and_their_table(opened):
    opened.click("#curves-grid .numbers summary")
    table = "document.querySelector('#curves-grid .numbers table').textContent"
    opened.wait("document.querySelector('#curves-grid .numbers table') !== null")
    assert "environment steps" in opened.evaluate(table)
    labels = "[...document.querySelectorAll('#curves-grid .label')].map(t => t.textContent)"
    assert set(opened.evaluate(labels)) == {"environment steps"}
    opened.evaluate("document.querySelector('input[value=hours]').click()")
    opened.wait(f"{DRAWN} === 2")
    assert all("wall-clock" in label for label in opened.evaluate(labels))


def test_the_playback_moves_pauses_scrubs_and_orbits(opened, report):
    opened.open(report[0], width=420, height=500)  # fewer pixels for a processor to draw
    opened.evaluate("document.getElementById('player').scrollIntoView({block: 'center'})")
    opened.wait("document.querySelector('#player').dataset.moment !== undefined")
    first = opened.screenshot("#player canvas")
    opened.click("#player .play")
    opened.wait(f"{MOMENT} > 5")
    opened.click("#player .play")
    rested = opened.evaluate(MOMENT)
    opened.evaluate("new Promise(r => setTimeout(r, 200))")
    assert opened.evaluate(MOMENT) == rested
    opened.changed("#player canvas", first)
    opened.evaluate(
        "(() => { const e = document.querySelector('#player input[type=range]'); e.value = 20;"
        "e.dispatchEvent(new Event('input')); })()"
    )
    opened.wait(f"{MOMENT} === 20")
    assert "return 20.0" in opened.evaluate("document.querySelector('#player output').textContent")
    still = opened.settled("#player canvas")
    opened.drag("#player canvas", 120, 30)
    opened.changed("#player canvas", still)
    turned = opened.settled("#player canvas")
    opened.evaluate("document.querySelector('.stage').focus()")
    opened.press("ArrowLeft")
    opened.changed("#player canvas", turned)
    opened.press(" ", " ")
    opened.wait(f"{MOMENT} !== 20")


def test_the_playback_follows_the_filters(opened, report):
    opened.open(report[0], width=420, height=500)
    opened.evaluate("document.getElementById('player').scrollIntoView({block: 'center'})")
    opened.wait("document.querySelector('#player').dataset.moment !== undefined")
    shown = "[...document.querySelectorAll('#recording option')].map(o => o.textContent)"
    assert len(opened.evaluate(shown)) == 5
    opened.evaluate("document.querySelector('#filter-agents input').click()")  # without crl
    assert len(opened.evaluate(shown)) == 4
    assert not any("crl" in name for name in opened.evaluate(shown))
    opened.evaluate("document.querySelectorAll('#filter-agents input').forEach(i => i.click())")
    assert any("crl" in name for name in opened.evaluate(shown))
    opened.evaluate("document.querySelector('#filter-agents input').click()")  # nothing is left
    assert opened.evaluate("document.getElementById('player').hidden")


def test_both_themes_have_readable_text(opened):
    """Contrast of text, marks and lines with what they stand on: WCAG's 4.5 and 3."""
    pairs = [("--ink", "--paper", 4.5), ("--muted", "--paper", 4.5), ("--muted", "--page", 4.5)]
    pairs += [("--mark-ink", "--mark", 4.5), ("--accent", "--paper", 4.5)]
    pairs += [(f"--c{i}", "--paper", 3.0) for i in range(8)]
    for theme in ("light", "dark"):
        opened.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for front, back, least in pairs:
            names = json.dumps([front, back])
            colours = opened.evaluate(
                f"{names}.map(n => getComputedStyle(document.documentElement).getPropertyValue(n))"
            )
            assert contrast(*colours) >= least, (theme, front, back)


def contrast(a: str, b: str) -> float:
    """WCAG's contrast of two colours like #aabbcc."""

    def luminance(colour: str) -> float:
        parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_theme_follows_the_system_and_the_button(opened):
    paper = "getComputedStyle(document.querySelector('section')).backgroundColor"
    opened.dark(True)
    dark = opened.evaluate(paper)
    opened.dark(False)
    light = opened.evaluate(paper)
    assert dark != light
    opened.click("#theme")  # light
    opened.click("#theme")  # dark
    assert opened.evaluate(paper) == dark
    opened.click("#theme")  # as the system


def test_a_phone_scrolls_in_one_direction_only(opened, report):
    opened.open(report[0], width=390, height=844)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert not opened.evaluate("document.getElementById('filter-box').open")
    opened.open(report[0])


def test_everything_that_can_be_used_has_a_name(opened):
    nameless = opened.evaluate(
        "[...document.querySelectorAll('button, input, select, [role=region], [role=img]')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    assert opened.evaluate("[...document.querySelectorAll('table')].every(t => t.caption)")
    headings = opened.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)")
    assert headings[0] == "H1" and headings.count("H1") == 1


def test_commands_open_by_keyboard(opened):
    opened.evaluate("document.querySelector('#results-table .link').focus()")
    opened.press("Enter", "\r")
    assert not opened.evaluate("document.querySelector('#results-table .panel').hidden")
    text = opened.evaluate("document.querySelector('#results-table .panel').textContent")
    assert re.search("jaxrl train .* --seed 0.*Copy", text)


def test_tasks_without_a_reference_are_not_averaged(browser, tmp_path):
    samples.runs(tmp_path / "runs", tasks=("walker-walk", "my-task"))
    summary = Summary(tuple(collect([tmp_path / "runs"])))
    page.write(tmp_path / "page.html", summary, "Test", METRIC)
    browser.complaints.clear()
    browser.open(tmp_path / "page.html")
    across = "document.getElementById('across-body').textContent"
    assert "my-task has no reference score" in browser.evaluate(across)
    browser.click("#filter-tasks label:nth-of-type(1) input")
    assert "over 1 task" in browser.evaluate(across)
    assert browser.complaints == []


def test_a_player_alone(browser, tmp_path):
    page.write_player(tmp_path / "policy.html", samples.recording(), "gqn on ball-roll")
    browser.complaints.clear()
    browser.open(tmp_path / "policy.html")
    browser.wait("document.querySelector('#player').dataset.moment !== undefined")
    assert "gqn on ball-roll" in browser.evaluate(
        "document.querySelector('.stage').getAttribute('aria-label')"
    )
    assert browser.complaints == []
    found = browser.evaluate(
        "(() => { const data = JSON.parse(document.getElementById('data').textContent);"
        "const r = data.media[0].recording;"
        "const built = Rollout.build(r); Rollout.pose(built, r, 10.5);"
        "const tendon = built.tendons[0].made;"
        "const ball = built.bodies.get(1);"
        "return [ball.position.toArray(), tendon.position.toArray(), tendon.scale.z];"
        "})()"
    )
    x = np.linspace(-1, 1, 40)[10:12].mean()  # between frames 10 and 11
    np.testing.assert_allclose(found[0], [x, 0, 0], atol=1e-4)
    np.testing.assert_allclose(found[1], [x / 2, 0.5, 0.5], atol=1e-4)
    assert found[2] == pytest.approx(np.sqrt(x * x + 2), abs=1e-4)
