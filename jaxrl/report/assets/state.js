"use strict";
// What the report is drawn from, what is chosen in its filters, and the small parts that all of its
// sections share. `data` is made by jaxrl.report.page.payload.
const Report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { element, swatch } = Charts;
  const byId = (id) => document.getElementById(id);
  const every = (list) => new Set(list.map((_, i) => i));
  const seeds = [...new Set(data.runs.map((r) => r.seed))].sort((a, b) => a - b);
  const series = [...new Set(data.published.map((p) => p.name))];
  const DASHES = ["6 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "1 4"];
  const chosen = {
    agents: every(data.agents),
    tasks: every(data.tasks),
    seeds: new Set(seeds),
    published: every(series),
  };
  const digits = (v) => (Math.abs(v) >= 100 ? v.toFixed(1) : Number(v.toPrecision(4)).toString());
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const grouped = (n) => n.toLocaleString("en");

  // ---- what is chosen

  const unfiltered = () =>
    chosen.agents.size === data.agents.length &&
    chosen.tasks.size === data.tasks.length &&
    chosen.seeds.size === seeds.length;
  const visible = (r) => chosen.agents.has(r.agent) && chosen.tasks.has(r.task) && chosen.seeds.has(r.seed);
  const runsOf = (agent, task) => data.runs.filter((r) => visible(r) && r.agent === agent && r.task === task);
  const counted = (runs) => runs.filter((r) => r.left_out === null);
  const agents = () => data.agents.map((_, i) => i).filter((i) => chosen.agents.has(i));
  const tasks = () => data.tasks.map((_, i) => i).filter((i) => chosen.tasks.has(i));

  function cellOf(agent, task) {
    if (unfiltered()) return data.cells.find((c) => c.agent === agent && c.task === task);
    return {
      agent,
      task,
      ...Statistics.cell(
        counted(runsOf(agent, task)).map((r) => r.score),
        data.t_quantiles,
      ),
    };
  }

  // ---- small parts

  const cells = (tag, values) =>
    values.map((v) => element(tag, tag === "th" ? { scope: "col" } : {}, ...[v].flat()));
  const mark = (text, title = null) => element("span", { class: "mark", title }, text);
  const nothing = (text) => element("p", { class: "notice" }, text);

  function table(caption, head, bodies) {
    const title = element("caption", { class: "hidden" }, caption);
    const top = element("thead", {}, element("tr", {}, ...cells("th", head)));
    const inner = element("table", {}, title, top, ...bodies);
    return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, inner);
  }

  const named = (agent) => element("span", { class: "agent" }, swatch(agent), data.agents[agent]);

  function estimate(point, low, high) {
    if (point === null) return [mark("no score")];
    const interval =
      low === null
        ? mark("n = 1: no interval")
        : element("span", { class: "interval" }, `[${digits(low)}, ${digits(high)}]`);
    return [element("b", {}, digits(point)), " ", interval];
  }

  function copyButton(text) {
    const button = element(
      "button",
      { type: "button", class: "copy", "aria-label": "Copy the command" },
      "Copy",
    );
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
        button.textContent = "Selected";
      }
      setTimeout(() => {
        button.textContent = "Copy";
      }, 1500);
    });
    return button;
  }

  function origin(r) {
    const command = r.command
      ? [element("code", {}, r.command), copyButton(r.command)]
      : [mark("command unknown")];
    const commit =
      r.commit === "unknown"
        ? mark("commit unknown")
        : element("code", {}, r.commit.replace(/^(.{9})[^+]*/, "$1"));
    return { command, commit };
  }

  return {
    data,
    seeds,
    series,
    DASHES,
    chosen,
    byId,
    digits,
    grouped,
    capital,
    unfiltered,
    visible,
    runsOf,
    counted,
    agents,
    tasks,
    cellOf,
    mark,
    nothing,
    table,
    named,
    estimate,
    origin,
  };
})();
