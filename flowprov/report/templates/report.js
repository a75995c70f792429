"use strict";
// What is chosen in the page, which outlives new contents of it.
const chosen = { filter: "", log: false, smooth: "0", head: null, up: true };
const start = () => {
  const SVG = "http://www.w3.org/2000/svg";
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const data = JSON.parse(document.getElementById("runs-data").textContent);
  const hidden = new Set();

  // Numbers as the page shows them.
  const show = (value) => {
    const size = Math.abs(value);
    if (!Number.isFinite(value)) return String(value);
    if (value === 0) return "0";
    const text = size >= 1e7 || size < 1e-4 ? value.toExponential(2).replace("e+", "e")
      : size >= 1e4 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
    return text.replace(/-/g, "\u2212");
  };
  const ticks = (low, high, most) => {
    const span = high - low;
    if (!(span > 0)) return [low];
    const power = 10 ** Math.floor(Math.log10(span / most));
    const step = power * ([1, 2, 5, 10].find((factor) => span / (factor * power) <= most) || 10);
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n <= high / step + 1e-9; n += 1) found.push(Number((n * step).toPrecision(12)));
    return found;
  };
  const powers = (low, high) => {
    const found = [];
    for (let p = Math.ceil(Math.log10(low) - 1e-9); p <= Math.log10(high) + 1e-9; p += 1) found.push(10 ** p);
    if (found.length < 2) return ticks(low, high, 4).filter((value) => value > 0);
    const every = Math.ceil(found.length / 6);
    return found.filter((_, n) => n % every === 0);
  };

  // Highlight a run wherever it is drawn.
  const marked = new Map();
  all("[data-run]").forEach((one) => {
    const run = Number(one.dataset.run);
    marked.set(run, [...(marked.get(run) || []), one]);
  });
  let lit = null;
  const light = (run) => {
    if (run === lit) return;
    (marked.get(lit) || []).forEach((one) => one.classList.remove("on"));
    (marked.get(run) || []).forEach((one) => one.classList.add("on"));
    lit = run;
  };

  // The table of runs.
  const table = document.getElementById("runs-table");
  const body = table && table.tBodies[0];
  const keyOf = (row, column) => {  // by what it is sorted: what it says, if nothing else
    const { dataset, textContent } = row.cells[column];
    return dataset.k ?? (textContent === "\u2013" ? undefined : textContent);
  };
  const sort = (head, up) => {
    const column = head.cellIndex;
    const numeric = head.dataset.numeric === "1";
    const rows = [...body.rows];
    const known = (key) => (numeric && Number.isNaN(Number(key)) ? undefined : key);
    const value = new Map(rows.map((row) => [row, known(keyOf(row, column))]));
    rows.sort((a, b) => {
      const [x, y] = [value.get(a), value.get(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
      return up ? order : -order;
    });
    all("th[aria-sort]", table).forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
    Object.assign(chosen, { head: head.dataset.name, up });
  };
  const tests = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
  };
  const matcher = (word, names) => {
    const parts = /^([^<>=]+)(<=|>=|<|>|=)(.+)$/.exec(word);
    const column = parts ? names.indexOf(parts[1].toLowerCase()) : -1;
    if (column < 0) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
    const wanted = Number(parts[3]);
    return (row) => {
      const key = keyOf(row, column);
      if (key === undefined) return false;
      if (Number.isFinite(wanted) && Number.isFinite(Number(key))) return tests[parts[2]](Number(key), wanted);
      return parts[2] === "=" && key.toLowerCase() === parts[3].toLowerCase();
    };
  };
  if (table) {
    all("th[scope=col]", table).forEach((head) => head.querySelector("button").addEventListener("click", () => sort(head, head.getAttribute("aria-sort") !== "ascending")));
    all("tr[data-run]", table).forEach((row) => {
      row.addEventListener("pointerenter", () => light(Number(row.dataset.run)));
      row.addEventListener("pointerleave", () => light(null));
    });
    const field = document.getElementById("filter");
    const names = all("th[scope=col]", table).map((head) => head.dataset.name.toLowerCase());
    field.addEventListener("input", () => {
      chosen.filter = field.value;
      const match = field.value.split(/\s+/).filter(Boolean).map((word) => matcher(word, names));
      hidden.clear();
      for (const row of body.rows) {
        const off = !match.every((one) => one(row));
        row.classList.toggle("off", off);
        if (off) hidden.add(Number(row.dataset.run));
      }
      const left = body.rows.length - hidden.size;
      document.getElementById("filtered").textContent = match.length ? `${left} of ${body.rows.length} runs` : "";
      all(".par").forEach((one) => one.classList.toggle("off", hidden.has(Number(one.dataset.run))));
      charts.forEach((chart) => chart.draw());
    });
  }

  // The charts: paths are in the units of the values, and are drawn anew in pixels.
  const parse = (path) => path.split("M").filter(Boolean).map((piece) => {
    const numbers = piece.replace("L", " ").trim().split(/[ ,]+/).map(Number);
    const points = [];
    for (let n = 0; n + 1 < numbers.length; n += 2) points.push([numbers[n], numbers[n + 1]]);
    return points;
  });
  const smooth = (points, weight) => {
    let mean = null;
    return points.map(([x, y]) => { mean = mean === null ? y : weight * mean + (1 - weight) * y; return [x, mean]; });
  };
  const element = (name, attributes, parent) => {
    const one = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => one.setAttribute(key, value));
    parent.append(one);
    return one;
  };
  class Chart {
    constructor(svg) {
      this.svg = svg;
      this.box = svg.dataset.box.split(" ").map(Number);  // left, top, right, bottom
      this.said = svg.parentNode.querySelector(".said");
      this.curves = all(".curve", svg).map((path) => ({ path, run: Number(path.dataset.run), raw: parse(path.getAttribute("d")) }));
      this.log = false;
      this.weight = 0;
      svg.querySelector(".lines").removeAttribute("transform");
      this.hair = element("line", { class: "hair off", y1: this.box[1], y2: this.box[3] }, svg);
      this.spot = element("circle", { class: "spot off", r: 3.5 }, svg);
      svg.addEventListener("pointermove", (event) => this.point(event));
      svg.addEventListener("pointerdown", (event) => this.point(event));
      svg.addEventListener("pointerleave", () => this.clear());
      svg.addEventListener("keydown", (event) => this.key(event));
      svg.addEventListener("blur", () => this.clear());
      this.draw();
    }
    draw() {
      const seen = this.curves.filter((curve) => !hidden.has(curve.run));
      this.curves.forEach((curve) => curve.path.classList.toggle("off", hidden.has(curve.run)));
      seen.forEach((curve) => {
        curve.drawn = curve.raw.map((piece) => (this.weight ? smooth(piece, this.weight) : piece))
          .map((piece) => (this.log ? piece.filter((point) => point[1] > 0) : piece)).filter((piece) => piece.length);
      });
      this.seen = seen.filter((curve) => curve.drawn.length);
      const points = this.seen.flatMap((curve) => curve.drawn.flat());
      if (!points.length) return;
      let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
      points.forEach(([x, y]) => { x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y); });
      if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
      if (y0 === y1) { const by = Math.abs(y0) * 0.05 || 0.5; y0 -= this.log ? y0 / 2 : by; y1 += by; }
      const turn = this.log ? Math.log10 : (value) => value;
      const room = (turn(y1) - turn(y0)) * 0.04;
      const [low, high] = [turn(y0) - room, turn(y1) + room];
      const [left, top, right, bottom] = this.box;
      this.x = (value) => left + ((value - x0) / (x1 - x0)) * (right - left);
      this.y = (value) => bottom - ((turn(value) - low) / (high - low)) * (bottom - top);
      this.seen.forEach((curve) => {
        const at = ([x, y]) => `${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`;
        curve.path.setAttribute("d", curve.drawn.map((piece) => `M${at(piece[0])}L${(piece.length > 1 ? piece.slice(1) : piece).map(at).join(" ")}`).join(""));
      });
      const axes = this.svg.querySelector(".axes");
      axes.replaceChildren();
      (this.log ? powers(y0, y1) : ticks(y0, y1, 5)).forEach((value) => {
        const y = this.y(value);
        if (y < top - 1 || y > bottom + 1) return;
        element("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }, axes);
        element("text", { class: "end", x: left - 6, y: y + 4 }, axes).textContent = show(value);
      });
      ticks(x0, x1, 6).forEach((value) => {
        element("text", { class: "mid", x: this.x(value), y: bottom + 16 }, axes).textContent = show(value);
      });
    }
    place(event) {
      const frame = this.svg.getBoundingClientRect();
      const scale = this.svg.viewBox.baseVal.width / frame.width;
      return [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
    }
    point(event) { const [x, y] = this.place(event); this.near(x, y); }
    near(x, y) {
      let best = null;
      this.seen.forEach((curve) => curve.drawn.forEach((piece) => piece.forEach((point) => {
        const far = Math.hypot((this.x(point[0]) - x), (this.y(point[1]) - y) * 0.6);
        if (!best || far < best.far) best = { far, curve, point };
      })));
      if (!best) return;
      const [px, py] = [this.x(best.point[0]), this.y(best.point[1])];
      this.hair.setAttribute("x1", px); this.hair.setAttribute("x2", px);
      this.spot.setAttribute("cx", px); this.spot.setAttribute("cy", py);
      [this.hair, this.spot].forEach((one) => one.classList.remove("off"));
      this.at = best;
      this.said.textContent = `${show(best.point[1])} at step ${show(best.point[0])} \u00b7 ${data[best.curve.run] || ""}`;
      light(best.curve.run);
    }
    key(event) {
      const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") this.clear();
      if (!turn || !this.seen.length) return;
      event.preventDefault();
      if (!this.at) { const piece = this.seen[this.seen.length - 1].drawn.flat(); this.at = { curve: this.seen[this.seen.length - 1], point: piece[piece.length - 1] }; }
      let { curve, point } = this.at;
      if (turn[0]) {
        const points = curve.drawn.flat();
        point = points[Math.min(Math.max(points.indexOf(point) + turn[0], 0), points.length - 1)];
      } else {
        const order = [...this.seen].sort((a, b) => a.run - b.run);
        curve = order[Math.min(Math.max(order.indexOf(curve) + turn[1], 0), order.length - 1)];
        const points = curve.drawn.flat();
        point = points.reduce((a, b) => (Math.abs(b[0] - point[0]) < Math.abs(a[0] - point[0]) ? b : a));
      }
      this.near(this.x(point[0]), this.y(point[1]));
    }
    clear() {
      [this.hair, this.spot].forEach((one) => one.classList.add("off"));
      this.said.textContent = "";
      this.at = null;
      light(null);
    }
  }
  const charts = all("svg.chart").map((svg) => new Chart(svg));
  const logarithmic = document.getElementById("log");
  const smoothing = document.getElementById("smooth");
  if (logarithmic) {
    logarithmic.addEventListener("change", () => { chosen.log = logarithmic.checked; charts.forEach((chart) => { chart.log = logarithmic.checked; chart.draw(); }); });
    smoothing.addEventListener("input", () => {
      chosen.smooth = smoothing.value;
      document.getElementById("smoothed").textContent = smoothing.value === "0" ? "off" : Number(smoothing.value / 100).toFixed(2);
      charts.forEach((chart) => { chart.weight = smoothing.value / 100; chart.draw(); });
    });
  }

  // Parallel coordinates and timelines: what is under the pointer is said below.
  all("svg.parallel").forEach((svg) => {
    const said = svg.closest("figure").querySelector(".said");
    svg.addEventListener("pointerover", (event) => {
      const line = event.target.closest(".par");
      light(line ? Number(line.dataset.run) : null);
      said.textContent = line ? data[line.dataset.run] || "" : "";
    });
    svg.addEventListener("pointerleave", () => { light(null); said.textContent = ""; });
  });
  all("svg.timeline").forEach((svg) => {
    const said = svg.closest("figure").querySelector(".said");
    svg.addEventListener("pointerover", (event) => {
      const title = event.target.classList.contains("bar") && event.target.querySelector("title");
      said.textContent = title ? title.textContent : "";
    });
  });

  // As it was chosen before.
  const again = (one, name, value, event) => { if (one && one[name] !== value) { one[name] = value; one.dispatchEvent(new Event(event)); } };
  again(document.getElementById("filter"), "value", chosen.filter, "input");
  again(logarithmic, "checked", chosen.log, "change");
  again(smoothing, "value", chosen.smooth, "input");
  const sorted = table && all("th[scope=col]", table).find((head) => head.dataset.name === chosen.head);
  if (sorted) sort(sorted, chosen.up);
};
// On paper everything is open.
let closed = [];
addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("details:not([open])")]; closed.forEach((one) => { one.open = true; }); });
addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
if (document.getElementById("runs-data")) start();
document.documentElement.classList.add("live");
