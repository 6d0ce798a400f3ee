"use strict";
// Statistics of a filtered part of the report, by the formulas of jaxrl.report.summary and
// jaxrl.stats. Shapes: a task is {x: scores [n], w: weights [n] that sum to 1}.
const Statistics = (() => {
  const RESAMPLES = 2000;

  const sum = (x) => x.reduce((a, b) => a + b, 0);
  const average = (x) => sum(x) / x.length;

  function deviation(x, lost) {
    const m = average(x);
    return Math.sqrt(sum(x.map((v) => (v - m) ** 2)) / (x.length - lost));
  }

  // Mean over seeds and Student's interval of it; no interval for one seed.
  function cell(x, tQuantiles) {
    if (!x.length) return { n: 0, mean: null, low: null, high: null };
    const mean = average(x);
    if (x.length < 2) return { n: 1, mean, low: null, high: null };
    const half = (tQuantiles[x.length - 2] * deviation(x, 1)) / Math.sqrt(x.length);
    return { n: x.length, mean, low: mean - half, high: mean + half };
  }

  const taskMeans = (tasks) => tasks.map((t) => sum(t.x.map((v, i) => v * t.w[i])));

  function quantile(sorted, q) {
    const at = q * (sorted.length - 1);
    const low = Math.floor(at);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
  }

  function iqm(tasks) {
    const all = tasks.flatMap((t) => t.x.map((v, i) => [v, t.w[i]])).sort((a, b) => a[0] - b[0]);
    const total = tasks.length;
    const cut = (Math.floor(all.length / 4) * total) / all.length;
    const clip = (mass) => Math.min(Math.max(mass, cut), total - cut);
    let mass = 0;
    let result = 0;
    for (const [value, weight] of all) {
      result += value * (clip(mass + weight) - clip(mass));
      mass += weight;
    }
    return result / (total - 2 * cut);
  }

  const METRICS = {
    IQM: iqm,
    Median: (tasks) =>
      quantile(
        taskMeans(tasks).sort((a, b) => a - b),
        0.5,
      ),
    Mean: (tasks) => average(taskMeans(tasks)),
    "Optimality gap": (tasks) =>
      1 - average(taskMeans(tasks.map((t) => ({ x: t.x.map((v) => Math.min(v, 1)), w: t.w })))),
  };

  // A small seeded generator (mulberry32), so that a filter gives the same numbers every time.
  function generator(seed) {
    let a = seed >>> 0;
    return () => {
      a = (a + 0x6d2b79f5) >>> 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  const uniform = (n) => Array(n).fill(1 / n);

  function drawn(scores, draws, random) {
    return scores.map((x) => {
      const m = draws(x.length);
      const w = Array(x.length).fill(0);
      for (let i = 0; i < m; i++) w[Math.floor(random() * x.length)] += 1 / m;
      return { x, w };
    });
  }

  // Every metric of scores [T][n_t] with an interval: point +- t * standard error.
  function aggregate(scores, tQuantiles) {
    const once = scores.map((x) => ({ x, w: uniform(x.length) }));
    const found = {};
    for (const [name, metric] of Object.entries(METRICS)) found[name] = [metric(once), null, null];
    if (scores.some((x) => x.length < 2)) return found;
    const random = generator(0);
    const samples = Object.fromEntries(Object.keys(METRICS).map((name) => [name, []]));
    for (let i = 0; i < RESAMPLES; i++) {
      const tasks = drawn(scores, (n) => n - 1, random);
      for (const [name, metric] of Object.entries(METRICS)) samples[name].push(metric(tasks));
    }
    for (const [name, metric] of Object.entries(METRICS)) {
      const half = tQuantiles[degrees(scores, metric) - 1] * deviation(samples[name], 0);
      found[name] = [found[name][0], found[name][0] - half, found[name][0] + half];
    }
    return found;
  }

  // Satterthwaite's degrees of freedom, from each task's jackknife share of the variance.
  function degrees(scores, metric) {
    const shares = scores.map((x, t) => {
      const n = x.length;
      const values = x.map((_, left) => {
        const tasks = scores.map((y) => ({ x: y, w: uniform(y.length) }));
        tasks[t].w = x.map((_, i) => (i === left ? 0 : 1 / (n - 1)));
        return metric(tasks);
      });
      return (n - 1) * deviation(values, 0) ** 2;
    });
    const total = sum(shares);
    if (total === 0) return 1;
    const squares = sum(shares.map((v, t) => (v * v) / (scores[t].length - 1)));
    return Math.max(1, Math.floor((total * total) / squares + 1e-9));
  }

  // Share of runs above each threshold [K], tasks weighing the same; percentile intervals.
  function profile(scores, thresholds) {
    const above = scores.map((x) => thresholds.map((tau) => x.map((v) => (v > tau ? 1 : 0))));
    const share = (tasks) =>
      thresholds.map((_, k) =>
        average(tasks.map((t, i) => above[i][k].reduce((s, a, j) => s + a * t.w[j], 0))),
      );
    const point = share(scores.map((x) => ({ x, w: uniform(x.length) })));
    if (scores.some((x) => x.length < 2)) return { point, low: null, high: null };
    const random = generator(0);
    const samples = [];
    for (let i = 0; i < 500; i++) samples.push(share(drawn(scores, (n) => n, random)));
    const ends = (q) =>
      thresholds.map((_, k) =>
        quantile(
          samples.map((s) => s[k]).sort((a, b) => a - b),
          q,
        ),
      );
    return { point, low: ends(0.025), high: ends(0.975) };
  }

  // y at `grid` by straight lines between the points; NaN beyond them.
  function onGrid(x, y, grid) {
    let i = 0;
    return grid.map((at) => {
      if (at < x[0] || at > x[x.length - 1]) return NaN;
      while (i < x.length - 2 && x[i + 1] < at) i++;
      return y[i] + ((at - x[i]) / (x[i + 1] - x[i] || 1)) * (y[i + 1] - y[i]);
    });
  }

  // Curves [{x, y}] on one grid, over the range that all cover: {x [L], values [n][L]}.
  function aligned(lines, points) {
    const first = lines[0].x;
    if (lines.every((l) => l.x.length === first.length && l.x.every((v, i) => v === first[i]))) {
      return { x: first, values: lines.map((l) => l.y) };
    }
    const low = Math.max(...lines.map((l) => l.x[0]));
    const high = Math.min(...lines.map((l) => l.x[l.x.length - 1]));
    if (!(low < high)) return { x: [], values: lines.map(() => []) };
    const grid = Array.from({ length: points }, (_, i) => low + ((high - low) * i) / (points - 1));
    grid[points - 1] = high;
    return { x: grid, values: lines.map((l) => onGrid(l.x, l.y, grid)) };
  }

  return { cell, aggregate, profile, aligned };
})();
