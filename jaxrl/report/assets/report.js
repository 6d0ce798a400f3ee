"use strict";
// The filters, the choice of a playback, and the start.
(() => {
  const { element, swatch } = Charts;
  const { data, seeds, series, DASHES, chosen, byId, digits, visible } = Report;
  const { results, across, curves, profiles, runTable, differenceTables } = Sections;

  // ---- policies

  let player = null;
  function policies() {
    if (!data.media.length) return;
    byId("policies").hidden = false;
    const shown = data.media
      .map((m, i) => [m, i])
      .filter(([m]) => chosen.agents.has(m.agent) && chosen.tasks.has(m.task) && chosen.seeds.has(m.seed));
    const select = byId("recording");
    const before = select.value;
    select.replaceChildren(
      ...shown.map(([m, i]) => element("option", { value: i }, `${m.name}: ${digits(m.score)}`)),
    );
    const highest = Math.max(...shown.map(([m]) => m.score));
    const kept = shown.find(([, i]) => String(i) === before) || shown.find(([m]) => m.score === highest);
    if (kept) select.value = String(kept[1]);
    select.disabled = !shown.length;
    if (!player) return;
    if (!shown.length) player.close();
    else if (select.value !== player.shown) show();
  }

  function show() {
    const select = byId("recording");
    if (select.value === "") return;
    player = player || Playback.create(byId("player"));
    player.shown = select.value;
    player.open(data.media[Number(select.value)]);
  }

  // ---- filters

  function group(id, names, set, keys, looks) {
    const box = byId(id);
    box.hidden = !names.length;
    names.forEach((name, i) => {
      const input = element("input", { type: "checkbox", checked: "" });
      input.addEventListener("change", () => {
        if (input.checked) set.add(keys[i]);
        else set.delete(keys[i]);
        redraw();
      });
      box.append(
        element(
          "label",
          { class: "chip" },
          input,
          ...(looks ? [looks(i)] : []),
          element("span", {}, String(name)),
        ),
      );
    });
  }

  function redraw() {
    const n = data.runs.filter(visible).length;
    byId("filter-state").textContent =
      n === data.runs.length ? `all ${n} runs` : `${n} of ${data.runs.length} runs`;
    for (const draw of [results, across, curves, profiles, policies, runTable, differenceTables]) draw();
  }

  function start() {
    byId("title").textContent = data.title;
    const count = (n, name) => `${n} ${name}${n === 1 ? "" : "s"}`;
    byId("subtitle").textContent = [
      count(data.runs.length, "run"),
      count(data.agents.length, "agent"),
      count(data.tasks.length, "task"),
      count(seeds.length, "seed"),
    ].join(" · ");
    byId("footer").textContent = `Made by jaxrl ${data.version}.`;
    const indices = (list) => list.map((_, i) => i);
    group("filter-agents", data.agents, chosen.agents, indices(data.agents), (i) => swatch(i));
    group(
      "filter-tasks",
      data.tasks.map((t) => t.name),
      chosen.tasks,
      indices(data.tasks),
    );
    group("filter-seeds", seeds, chosen.seeds, seeds);
    group("filter-published", series, chosen.published, indices(series), (i) =>
      swatch(i, DASHES[i % DASHES.length]),
    );
    byId("filters").addEventListener("reset", () => {
      data.agents.forEach((_, i) => chosen.agents.add(i));
      data.tasks.forEach((_, i) => chosen.tasks.add(i));
      seeds.forEach((s) => chosen.seeds.add(s));
      series.forEach((_, i) => chosen.published.add(i));
      redraw();
    });
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const input of document.querySelectorAll("input[name=axis], #single"))
      input.addEventListener("change", curves);
    byId("recording").addEventListener("change", show);
    if (matchMedia("(max-width: 700px)").matches) byId("filter-box").open = false;
    redraw();
    if (data.media.length) {
      new IntersectionObserver(
        (entries, observer) => {
          if (!entries.some((e) => e.isIntersecting)) return;
          observer.disconnect();
          show();
        },
        { rootMargin: "200px" },
      ).observe(byId("player"));
    }
  }

  start();
})();
