"use strict";
// Line charts as inline SVG, each with a read-out under the pointer and a table for those who
// cannot see it. Colours come from the style sheet, so both themes apply to what is drawn.
const Charts = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 8;
  const TABLE_ROWS = 25;

  function element(name, attributes = {}, ...children) {
    const svg = ["svg", "g", "path", "line", "text", "rect", "title", "circle", "clipPath"].includes(name);
    const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  const colour = (i) => `var(--c${i % COLOURS})`;

  // Centred at 0, 0; told apart without colour.
  const MARKERS = [
    "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0",
    "M-3.2,-3.2h6.4v6.4h-6.4z",
    "M0,-4.2L4,3H-4z",
    "M0,-4.5L4.5,0L0,4.5L-4.5,0z",
    "M0,4.2L4,-3H-4z",
    "M-4,-1.3h2.7v-2.7h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7z",
  ];
  const marker = (i) => MARKERS[i % MARKERS.length];

  function swatch(i, dash = null) {
    const svg = element("svg", { width: 26, height: 12, "aria-hidden": "true", class: "swatch" });
    const line = { d: "M1,6H25", stroke: dash === null ? colour(i) : "var(--muted)" };
    svg.append(element("path", { ...line, "stroke-width": 2, "stroke-dasharray": dash, fill: "none" }));
    if (dash === null) {
      svg.append(element("path", { d: marker(i), fill: colour(i), transform: "translate(13,6)" }));
    }
    return svg;
  }

  // Round numbers that cover [low, high].
  function ticks(low, high, count) {
    const raw = (high - low) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
      found.push(Number((i * step).toPrecision(12)));
    }
    return found;
  }

  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
    if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
    return String(Number(value.toPrecision(3)));
  }

  const finite = (x) => x.filter((v) => v !== null && Number.isFinite(v));

  function range(values, pad) {
    let low = Infinity;
    let high = -Infinity;
    for (const list of values) {
      for (const v of list) {
        if (v === null || !Number.isFinite(v)) continue;
        if (v < low) low = v;
        if (v > high) high = v;
      }
    }
    if (!(low <= high)) return [0, 1];
    if (low === high) return [low - 1, high + 1];
    if (pad) high += 0.04 * (high - low);
    return [pad && low >= 0 ? 0 : low - (pad ? 0.04 * (high - low) : 0), high];
  }

  // The range of the lines; bands widen it by at most half to either side, and are cut beyond.
  function lineRange(series, thin) {
    const [low, high] = range(
      [...series, ...thin].map((s) => s.y),
      true,
    );
    const bands = range(
      series.flatMap((s) => [s.y, s.low || [], s.high || []]),
      true,
    );
    const room = 0.5 * (high - low);
    return [Math.max(bands[0], low - room), Math.min(bands[1], high + room)].map((v, i) =>
      i ? Math.max(v, high) : Math.min(v, low),
    );
  }

  let clips = 0;

  // A path through finite points, thinned to what `pixels` can show: first, least, most, last.
  function path(x, y, px, py, pixels) {
    let d = "";
    let pen = false;
    const every = Math.max(1, Math.floor(x.length / (2 * pixels)));
    for (let start = 0; start < x.length; start += every) {
      let picks = [start];
      if (every > 1) {
        const end = Math.min(start + every, x.length);
        let [least, most] = [start, start];
        for (let i = start; i < end; i++) {
          if (y[i] < y[least]) least = i;
          if (y[i] > y[most]) most = i;
        }
        picks = [...new Set([start, least, most, end - 1])].sort((a, b) => a - b);
      }
      for (const i of picks) {
        if (y[i] === null || !Number.isFinite(y[i])) {
          pen = false;
          continue;
        }
        d += `${pen ? "L" : "M"}${px(x[i]).toFixed(1)},${py(y[i]).toFixed(1)}`;
        pen = true;
      }
    }
    return d;
  }

  function band(s, px, py) {
    const keep = s.x.map((_, i) => i).filter((i) => Number.isFinite(s.low[i] + s.high[i]));
    const at = (i, side) => `${px(s.x[i]).toFixed(1)},${py(side[i]).toFixed(1)}`;
    const up = keep.map((i) => at(i, s.high));
    const down = keep.reverse().map((i) => at(i, s.low));
    return up.length > 1 ? `M${up.join("L")}L${down.join("L")}Z` : "";
  }

  // spec: {title, about, xLabel, yLabel, yRange, xFormat, series: [{name, index, dash, x, y, low,
  // high, thin: [{x, y}]}]}. Draws into `figure`, again when its width changes.
  function lines(spec) {
    const figure = element("figure", { class: "chart" });
    figure.append(element("figcaption", {}, element("h3", {}, spec.title)));
    const frame = element("div", { class: "frame" });
    figure.append(frame, table(spec));
    let width = 0;
    new ResizeObserver(([entry]) => {
      const now = Math.round(entry.contentRect.width);
      if (now !== width && now > 0) {
        width = now;
        frame.replaceChildren(...drawn(spec, width));
      }
    }).observe(frame);
    return figure;
  }

  function drawn(spec, width) {
    const height = Math.round(Math.min(300, Math.max(210, width * 0.62)));
    const margin = { left: 46, right: 14, top: 8, bottom: 40 };
    const thin = spec.series.flatMap((s) => s.thin || []);
    const xs = range(
      [...spec.series, ...thin].map((s) => s.x),
      false,
    );
    const ys = spec.yRange || lineRange(spec.series, thin);
    const px = (v) => margin.left + ((v - xs[0]) / (xs[1] - xs[0])) * (width - margin.left - margin.right);
    const py = (v) =>
      height - margin.bottom - ((v - ys[0]) / (ys[1] - ys[0])) * (height - margin.top - margin.bottom);
    const svg = element("svg", {
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `${spec.title}. ${spec.about}`,
    });
    axes(svg, spec, { width, height, margin, xs, ys, px, py });
    const pixels = width - margin.left - margin.right;
    const id = `clip-${clips++}`;
    const inside = {
      x: margin.left,
      y: margin.top,
      width: pixels,
      height: height - margin.top - margin.bottom,
    };
    svg.append(element("clipPath", { id }, element("rect", inside)));
    const bands = element("g", { "clip-path": `url(#${id})` });
    svg.append(bands);
    for (const s of spec.series) {
      if (s.low && s.high)
        bands.append(element("path", { d: band(s, px, py), fill: tint(s), opacity: 0.16 }));
    }
    for (const s of spec.series) {
      for (const t of s.thin || []) {
        svg.append(
          element("path", {
            d: path(t.x, t.y, px, py, pixels),
            stroke: tint(s),
            opacity: 0.45,
            fill: "none",
          }),
        );
      }
      const width_ = s.dash ? 1.5 : 2;
      svg.append(
        element("path", {
          d: path(s.x, s.y, px, py, pixels),
          stroke: tint(s),
          "stroke-width": width_,
          "stroke-dasharray": s.dash,
          "stroke-linejoin": "round",
          fill: "none",
        }),
      );
      if (!s.dash) markers(svg, s, px, py);
    }
    return [svg, readout(spec, svg, { width, height, margin, xs, px, py })];
  }

  const tint = (s) => (s.dash ? "var(--muted)" : colour(s.index));

  function markers(svg, s, px, py) {
    const every = Math.max(1, Math.floor(s.x.length / 6));
    const first = s.x.length > 6 ? (s.index * 2) % every : 0;
    for (let i = first; i < s.x.length; i += every) {
      if (!Number.isFinite(s.y[i]) || s.y[i] === null) continue;
      const at = `translate(${px(s.x[i]).toFixed(1)},${py(s.y[i]).toFixed(1)})`;
      svg.append(element("path", { d: marker(s.index), fill: tint(s), transform: at, class: "marker" }));
    }
  }

  function axes(svg, spec, { width, height, margin, xs, ys, px, py }) {
    const xFormat = spec.xFormat || short;
    for (const v of ticks(ys[0], ys[1], 5)) {
      svg.append(
        element("line", { x1: margin.left, x2: width - margin.right, y1: py(v), y2: py(v), class: "rule" }),
      );
      svg.append(element("text", { x: margin.left - 6, y: py(v) + 4, "text-anchor": "end" }, short(v)));
    }
    for (const v of ticks(xs[0], xs[1], Math.max(3, Math.floor(width / 90)))) {
      const edge = px(v) > width - 24 ? "end" : "middle";
      const x = edge === "end" ? Math.min(px(v) + 10, width - 2) : px(v);
      svg.append(element("text", { x, y: height - margin.bottom + 16, "text-anchor": edge }, xFormat(v)));
    }
    const middle = (margin.left + width - margin.right) / 2;
    svg.append(
      element("text", { x: middle, y: height - 6, "text-anchor": "middle", class: "label" }, spec.xLabel),
    );
  }

  // The values under the pointer.
  function readout(spec, svg, { width, height, margin, xs, px, py }) {
    const box = element("div", { class: "readout", hidden: "" });
    const rule = element("line", {
      y1: margin.top,
      y2: height - margin.bottom,
      class: "cursor",
      visibility: "hidden",
    });
    svg.append(rule);
    svg.addEventListener("pointermove", (event) => {
      const at = event.clientX - svg.getBoundingClientRect().left;
      const share = (at - margin.left) / (width - margin.left - margin.right);
      if (share < 0 || share > 1) return leave();
      const value = xs[0] + share * (xs[1] - xs[0]);
      rule.setAttribute("x1", at);
      rule.setAttribute("x2", at);
      rule.setAttribute("visibility", "visible");
      const rows = spec.series
        .map((s) => ({ s, i: nearest(s.x, value) }))
        .filter(({ s, i }) => i >= 0 && s.y[i] !== null && Number.isFinite(s.y[i]))
        .sort((a, b) => b.s.y[b.i] - a.s.y[a.i])
        .map(({ s, i }) =>
          element("li", {}, swatch(s.index, s.dash || null), `${s.name} `, element("b", {}, said(s, i))),
        );
      box.replaceChildren(
        element("p", {}, `${spec.xLabel}: ${(spec.xFormat || short)(value)}`),
        element("ul", {}, ...rows),
      );
      box.hidden = false;
      box.style.left = at > width / 2 ? "" : `${at + 12}px`;
      box.style.right = at > width / 2 ? `${width - at + 12}px` : "";
      return undefined;
    });
    function leave() {
      box.hidden = true;
      rule.setAttribute("visibility", "hidden");
    }
    svg.addEventListener("pointerleave", leave);
    return box;
  }

  // Index of the point of x nearest to `value`, -1 where the line has none there.
  function nearest(x, value) {
    if (!x.length) return -1;
    let [low, high] = [0, x.length - 1];
    const slack = (x[high] - x[0]) / Math.max(1, high);
    if (value < x[0] - slack || value > x[high] + slack) return -1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] <= value) low = middle;
      else high = middle;
    }
    return value - x[low] <= x[high] - value ? low : high;
  }

  function said(s, i) {
    const interval = s.low && s.high ? ` [${short(s.low[i])}, ${short(s.high[i])}]` : "";
    return short(s.y[i]) + interval;
  }

  // The chart's numbers, made when they are asked for.
  function table(spec) {
    const details = element(
      "details",
      { class: "numbers" },
      element("summary", { "aria-label": `Table of ${spec.title}` }, "Table"),
    );
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const head = element(
        "tr",
        {},
        ...["Series", spec.xLabel, spec.yLabel].map((t) => element("th", { scope: "col" }, t)),
      );
      const rows = spec.series.flatMap((s) => {
        const every = Math.max(1, Math.ceil(s.x.length / TABLE_ROWS));
        const picks = s.x.map((_, i) => i).filter((i) => i % every === 0 || i === s.x.length - 1);
        return picks
          .filter((i) => s.y[i] !== null && Number.isFinite(s.y[i]))
          .map((i) =>
            element(
              "tr",
              {},
              element("th", { scope: "row" }, s.name),
              element("td", {}, (spec.xFormat || short)(s.x[i])),
              element("td", {}, said(s, i)),
            ),
          );
      });
      const caption = element("caption", { class: "hidden" }, spec.title);
      const inner = element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...rows));
      details.append(
        element(
          "div",
          { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table of ${spec.title}` },
          inner,
        ),
      );
    });
    return details;
  }

  // An estimate and its interval on a scale that a table's rows share. One seed is a hollow dot.
  function whisker(index, scale, point, low, high) {
    const [width, height] = [180, 18];
    const px = (v) => 6 + ((v - scale[0]) / (scale[1] - scale[0] || 1)) * (width - 12);
    const svg = element("svg", {
      viewBox: `0 0 ${width} ${height}`,
      class: "whisker",
      "aria-hidden": "true",
    });
    svg.append(element("line", { x1: 6, x2: width - 6, y1: 9, y2: 9, class: "rule" }));
    if (low !== null) {
      const ends = { x1: px(Math.max(low, scale[0])), x2: px(Math.min(high, scale[1])) };
      svg.append(
        element("line", {
          ...ends,
          y1: 9,
          y2: 9,
          stroke: colour(index),
          "stroke-width": 5,
          opacity: 0.4,
          "stroke-linecap": "round",
        }),
      );
    }
    if (point !== null) {
      const fill = low === null ? "var(--paper)" : colour(index);
      svg.append(
        element("circle", { cx: px(point), cy: 9, r: 4.5, fill, stroke: colour(index), "stroke-width": 2 }),
      );
    }
    return svg;
  }

  return { element, lines, swatch, whisker, range, short, finite };
})();
