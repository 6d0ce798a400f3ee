"use strict";
// The sections that are redrawn when a filter changes.
const Sections = (() => {
  const { element, lines, swatch, whisker, range, short } = Charts;
  const { data, series, DASHES, chosen, byId, digits, grouped, capital, unfiltered, visible } = Report;
  const { runsOf, counted, agents, tasks, cellOf, mark, nothing, table, named, estimate, origin } = Report;

  // ---- results

  let cellNumber = 0;
  function resultRows(cell, scale) {
    const runs = runsOf(cell.agent, cell.task);
    const left = runs.length - cell.n;
    const id = `commands-${cellNumber++}`;
    const button = element(
      "button",
      {
        type: "button",
        class: "link",
        "aria-expanded": "false",
        "aria-controls": id,
        "aria-label": `Commands of ${data.agents[cell.agent]} on ${data.tasks[cell.task].name}`,
      },
      "commands",
    );
    const list = runs.map((r) => {
      const { command, commit } = origin(r);
      const score = r.score === null ? "no score" : digits(r.score);
      const out = r.left_out ? [" ", mark(r.left_out)] : [];
      return element(
        "li",
        {},
        element("span", {}, `seed ${r.seed}: ${score}, commit `),
        commit,
        ...out,
        element("div", { class: "command" }, ...command),
      );
    });
    const panel = element(
      "tr",
      { id, class: "panel", hidden: "" },
      element("td", { colspan: 5 }, element("ul", {}, ...list)),
    );
    button.addEventListener("click", () => {
      panel.hidden = !panel.hidden;
      button.setAttribute("aria-expanded", String(!panel.hidden));
    });
    const n = left
      ? [
          String(cell.n),
          " ",
          mark(
            `${left} left out`,
            runs
              .filter((r) => r.left_out)
              .map((r) => `${r.name}: ${r.left_out}`)
              .join("\n"),
          ),
        ]
      : [String(cell.n)];
    const row = element(
      "tr",
      { class: "result" },
      element("th", { scope: "row" }, named(cell.agent)),
      element("td", { class: "number" }, ...estimate(cell.mean, cell.low, cell.high)),
      element("td", { class: "graphic" }, whisker(cell.agent, scale, cell.mean, cell.low, cell.high)),
      element("td", { class: "number" }, ...n),
      element("td", {}, button),
    );
    return [row, panel];
  }

  function results() {
    const head = [
      "Agent",
      `Return [${Math.round(100 * data.level)} % interval]`,
      element("span", { class: "hidden" }, "Picture"),
      "n",
      "Made by",
    ];
    const bodies = tasks()
      .map((task) => {
        const found = agents()
          .filter((a) => runsOf(a, task).length)
          .map((a) => cellOf(a, task));
        const scale = range([found.flatMap((c) => [c.mean, c.low, c.high])], true);
        const title = element("th", { colspan: 5, scope: "rowgroup", class: "group" }, data.tasks[task].name);
        return found.length
          ? element("tbody", {}, element("tr", {}, title), ...found.flatMap((c) => resultRows(c, scale)))
          : null;
      })
      .filter(Boolean);
    byId("results-table").replaceChildren(
      bodies.length ? table("Results by task and agent", head, bodies) : nothing("Nothing is chosen."),
    );
    byId("results-text").textContent =
      `${capital(data.metric)}, the last of each run: mean over seeds, with Student's interval of the mean. n is the number of seeds; one seed has no interval (hollow dot).`;
  }

  // ---- across tasks

  function normalisedScores(agent) {
    const scores = [];
    const missing = [];
    for (const task of tasks()) {
      const { low, high } = data.tasks[task].reference;
      const x = counted(runsOf(agent, task)).map((r) => (r.score - low) / (high - low));
      if (x.length) scores.push(x);
      else missing.push(data.tasks[task].name);
    }
    return { scores, missing };
  }

  // Why nothing can be said across the chosen tasks; null if it can.
  function refusal() {
    const unknown = tasks()
      .filter((t) => !data.tasks[t].reference)
      .map((t) => data.tasks[t].name);
    if (!tasks().length || !agents().length) return "Nothing is chosen.";
    if (!unknown.length) return null;
    return `Not aggregated: ${unknown.join(", ")} ${unknown.length === 1 ? "has" : "have"} no reference score to normalise by, and returns of different tasks are not averaged without one. Leave ${unknown.length === 1 ? "it" : "them"} out in the filters to aggregate the others.`;
  }

  function aggregateOf(agent) {
    if (unfiltered()) return data.aggregates.find((a) => a.agent === agent);
    const { scores, missing } = normalisedScores(agent);
    if (missing.length) return { n: 0, mark: `no finished run of ${missing.join(", ")}`, estimates: {} };
    return {
      n: Math.min(...scores.map((x) => x.length)),
      estimates: Statistics.aggregate(scores, data.t_quantiles),
    };
  }

  function across() {
    const why = refusal();
    if (why) return byId("across-body").replaceChildren(nothing(why));
    const names = ["IQM", "Median", "Mean", "Optimality gap"];
    const rows = agents().map((agent) => {
      const found = aggregateOf(agent);
      const head = element("th", { scope: "row" }, named(agent));
      if (!Object.keys(found.estimates).length)
        return element("tr", {}, head, element("td", { colspan: 5 }, mark(found.mark)));
      const values = names.map((name) => {
        const [point, low, high] = found.estimates[name];
        const interval =
          low === null
            ? mark("n = 1")
            : element("span", { class: "interval" }, `[${low.toFixed(3)}, ${high.toFixed(3)}]`);
        return element("td", { class: "number" }, element("b", {}, point.toFixed(3)), " ", interval);
      });
      return element("tr", {}, head, ...values, element("td", { class: "number" }, String(found.n)));
    });
    const sources = [
      ...new Set(
        tasks().map(
          (t) =>
            `${data.tasks[t].reference.low} to ${data.tasks[t].reference.high}: ${data.tasks[t].reference.source}`,
        ),
      ),
    ];
    const text = element(
      "p",
      { class: "muted" },
      `Scores normalised by reference (${sources.join("; ")}), over ${tasks().length} ${tasks().length === 1 ? "task" : "tasks"}. A higher IQM, median and mean and a lower optimality gap are better. n is the number of seeds of the task with the fewest.`,
    );
    byId("across-body").replaceChildren(
      text,
      table("Aggregates over tasks", ["Agent", ...names, "n"], [element("tbody", {}, ...rows)]),
    );
    return undefined;
  }

  // ---- learning curves

  function curveOf(agent, task, clock, thin) {
    const all = runsOf(agent, task).filter((r) => r.values.length);
    const main = counted(all).length ? counted(all) : all;
    if (!main.length) return null;
    if (clock && all.some((r) => !r.hours)) return "no wall-clock time";
    const line = (r) => ({
      x: clock ? r.hours : data.steps[r.steps],
      y: r.values.map((v) => (v === null ? NaN : v)),
    });
    const { x, values } = Statistics.aligned(main.map(line), 200);
    const points = x.map((_, i) =>
      Statistics.cell(
        values.map((v) => v[i]),
        data.t_quantiles,
      ),
    );
    const several = main.length > 1;
    return {
      name: several ? data.agents[agent] : `${data.agents[agent]} (n = 1)`,
      index: agent,
      n: main.length,
      x,
      y: points.map((p) => p.mean),
      low: several ? points.map((p) => p.low) : null,
      high: several ? points.map((p) => p.high) : null,
      thin: thin || all.length > main.length ? all.map(line) : [],
    };
  }

  function publishedOf(task, end) {
    return data.published
      .filter((p) => p.task === task && chosen.published.has(series.indexOf(p.name)))
      .map((p) => {
        const keep = p.x.map((_, i) => i).filter((i) => p.x[i] <= end);
        const [x, y] = [keep.map((i) => p.x[i]), keep.map((i) => p.y[i])];
        const at = series.indexOf(p.name);
        return {
          name: `published ${p.name}`,
          index: at,
          dash: DASHES[at % DASHES.length],
          x,
          y,
          low: y.map((v) => v - p.uncertainty),
          high: y.map((v) => v + p.uncertainty),
        };
      });
  }

  function curves() {
    const clock = document.querySelector("input[name=axis]:checked").value === "hours";
    const thin = byId("single").checked;
    const figures = tasks()
      .map((task) => {
        const found = agents().map((a) => curveOf(a, task, clock, thin));
        const ours = found.filter((c) => c && typeof c === "object" && c.x.length);
        if (!ours.length) return null;
        const theirs = clock ? [] : publishedOf(task, Math.max(...ours.map((c) => c.x[c.x.length - 1])));
        const name = data.tasks[task].name;
        const about = ours
          .map((c) => `${c.name} ends at ${short(c.y[c.y.length - 1])} with n = ${c.n}`)
          .join(", ");
        const hours = range(
          ours.map((c) => c.x),
          false,
        )[1];
        const [unit, scale] = hours >= 2 ? ["h", 1] : hours >= 2 / 60 ? ["min", 60] : ["s", 3600];
        const chart = lines({
          title: name,
          about,
          xLabel: clock ? `wall-clock time (${unit})` : data.unit,
          yLabel: data.metric,
          xFormat: clock ? (v) => short(v * scale) : short,
          xScale: clock ? scale : 1,
          series: [...theirs, ...ours],
        });
        const ones = ours
          .filter((c) => c.n === 1)
          .map((c) => element("span", { class: "agent" }, swatch(c.index), mark("n = 1")));
        const clockless = found.includes("no wall-clock time")
          ? [mark("a run without wall-clock times is not drawn")]
          : [];
        if (ones.length || clockless.length)
          chart.querySelector("figcaption").append(element("div", { class: "ones" }, ...ones, ...clockless));
        return chart;
      })
      .filter(Boolean);
    byId("curves-grid").replaceChildren(
      ...(figures.length ? figures : [nothing("No run that is chosen has an evaluation.")]),
    );
    const dashed =
      data.published.length && !clock
        ? ` Dashed grey: published, the band is the uncertainty of reading them off (${[...new Set(data.published.map((p) => p.source))].join("; ")}).`
        : "";
    byId("curves-text").textContent =
      `${capital(data.metric)}: mean over seeds, band: ${Math.round(100 * data.level)} % interval of the mean; without a band: one seed.${dashed}`;
  }

  // ---- performance profiles

  function profileOf(agent) {
    if (unfiltered()) return data.profiles.find((p) => p.agent === agent);
    const { scores, missing } = normalisedScores(agent);
    if (missing.length) return null;
    const x = Array.from({ length: 101 }, (_, i) => i / 100);
    return { x, n: Math.min(...scores.map((s) => s.length)), ...Statistics.profile(scores, x) };
  }

  function profiles() {
    const why = refusal();
    if (why) return byId("profiles-body").replaceChildren(nothing(why));
    const found = agents()
      .map((a) => [a, profileOf(a)])
      .filter(([, p]) => p);
    if (!found.length)
      return byId("profiles-body").replaceChildren(
        nothing("No agent has a finished run of every chosen task."),
      );
    const drawn = found.map(([a, p]) => ({
      name: p.n > 1 ? data.agents[a] : `${data.agents[a]} (n = 1)`,
      index: a,
      n: p.n,
      x: p.x,
      y: p.point,
      low: p.low,
      high: p.high,
    }));
    const chart = lines({
      title: "Share of runs above a normalised score",
      about: drawn.map((s) => `${s.name}, n = ${s.n}`).join(", "),
      xLabel: "normalised score",
      yLabel: "share of runs",
      yRange: [0, 1.02],
      series: drawn,
    });
    const ones = drawn
      .filter((s) => s.n === 1)
      .map((s) => element("span", { class: "agent" }, swatch(s.index), mark("n = 1: no band")));
    if (ones.length) chart.querySelector("figcaption").append(element("div", { class: "ones" }, ...ones));
    const text = element(
      "p",
      { class: "muted" },
      "Tasks weigh the same; the band is a 95 % stratified bootstrap interval, point by point.",
    );
    byId("profiles-body").replaceChildren(text, element("div", { class: "wide" }, chart));
    return undefined;
  }

  // ---- runs and differences

  function runTable() {
    const rows = data.runs.filter(visible).map((r) => {
      const { command, commit } = origin(r);
      const steps = data.steps[r.steps];
      const said = [...(r.left_out ? [r.left_out] : []), ...r.notes].flatMap((t) => [mark(t), " "]);
      const hours = r.hours && r.hours.length ? r.hours[r.hours.length - 1] : null;
      return element(
        "tr",
        { class: "run" },
        element("th", { scope: "row" }, r.name),
        element("td", {}, named(r.agent)),
        element("td", {}, data.tasks[r.task].name),
        element("td", { class: "number" }, String(r.seed)),
        element("td", { class: "number" }, r.score === null ? mark("no score") : digits(r.score)),
        element("td", { class: "number" }, steps.length ? grouped(steps[steps.length - 1]) : "0"),
        element("td", { class: "number" }, hours === null ? mark("unknown") : short(hours)),
        element("td", {}, ...said),
        element("td", {}, commit),
        element("td", {}, r.device),
        element("td", { class: "command" }, ...command),
      );
    });
    const head = [
      "Run",
      "Agent",
      "Task",
      "Seed",
      "Return",
      "Steps",
      "Hours",
      "Notes",
      "Commit",
      "Device",
      "Command",
    ];
    byId("runs-table").replaceChildren(
      rows.length ? table("Runs", head, [element("tbody", {}, ...rows)]) : nothing("Nothing is chosen."),
    );
  }

  function differenceTables() {
    const shown = agents();
    const parts = data.differences.flatMap(({ title, rows }) => {
      const body = rows.map(([name, ...values]) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, name.replace(/^(agent|run)\./, "")),
          ...shown.map((a) =>
            element(
              "td",
              {},
              ...(values[a].length ? values[a].flatMap((v, i) => (i ? [element("br"), v] : [v])) : ["–"]),
            ),
          ),
        ),
      );
      const inner = body.length
        ? table(title, ["", ...shown.map(named)], [element("tbody", {}, ...body)])
        : element("p", { class: "muted" }, "The runs do not differ.");
      return [element("h3", {}, title), inner];
    });
    byId("differences-body").replaceChildren(...parts);
  }

  return { results, across, curves, profiles, runTable, differenceTables };
})();
