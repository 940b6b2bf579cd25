// A plane with a field of arrows, curves and paths, on a canvas.
import { html, useEffect, useRef, useState } from "../page/html.js";
import { lineColor, savePng, style } from "../page/files.js";
import { show, ticks } from "../page/numbers.js";
import { scheme } from "./chart.js";
import { SvgPen } from "./svg_pen.js";

const ARROWS = 21;
const GRID = 90; // cells of a side, on which curves are looked for
const MARGIN = { left: 52, right: 12, top: 10, bottom: 38 };

/**
 * `bounds`: [[x0, x1], [y0, y1]]; `field(x, y)`: an arrow, or null; `curves`: functions that are zero on them;
 * `paths`: [{points: [[x, y]], color, dash?, reached}], `reached` the number of points up to the chosen time.
 */
export function Plane({ title, note, labels, bounds, field, curves, paths, children }) {
  const canvas = useRef();
  const [width, resize] = useState(0);
  const [at, point] = useState(null);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => resize(Math.round(entry.contentRect.width)));
    watch.observe(canvas.current);
    return () => watch.disconnect();
  }, []);
  const drawing = { labels, bounds, field, curves, paths };
  useEffect(() => {
    if (width) draw(canvas.current, width, drawing);
  }, [width, bounds, field, curves, paths, scheme.value]);
  const read = (event) => {
    const box = event.target.getBoundingClientRect();
    point(new Frame(bounds, box.width, box.height).back(event.clientX - box.left, event.clientY - box.top));
  };
  const ends = paths.slice(0, 8).map(({ points, reached }) => `(${points[reached - 1].map((x) => show(x)).join(", ")})`);
  return html`
    <figure class="chart card wide">
      <figcaption>
        <h3>${title}</h3>
        <span class="menu">
          <button class="button small" onClick=${() => savePng(canvas.current, title)}
            aria-label=${`${title} as PNG`}>PNG</button>
          <button class="button small" onClick=${() => saveSvg(width, drawing, title)}
            aria-label=${`${title} as SVG`}>SVG</button>
        </span>
      </figcaption>
      ${note && html`<p class="note">${note}</p>`}
      ${children}
      <canvas class="plane" ref=${canvas} onPointerMove=${read} onPointerLeave=${() => point(null)} role="img"
        aria-label=${`${title}: ${labels[0]} across, ${labels[1]} up; now at ${ends.join(", ")}`}></canvas>
      <p class="reading">${at ? html`<span class="number">${labels[0]} = ${show(at[0])}, ${labels[1]} = ${
        show(at[1])}</span>` : html`<span class="quiet">Circles: starts. Discs: the chosen time.</span>`}</p>
    </figure>`;
}

/** From coordinates to pixels, and back. */
class Frame {
  constructor([[x0, x1], [y0, y1]], width, height) {
    Object.assign(this, { x0, x1, y0, y1 });
    this.left = MARGIN.left;
    this.bottom = height - MARGIN.bottom;
    this.wide = width - MARGIN.left - MARGIN.right;
    this.high = height - MARGIN.top - MARGIN.bottom;
  }

  to(x, y) {
    return [
      this.left + ((x - this.x0) / (this.x1 - this.x0)) * this.wide,
      this.bottom - ((y - this.y0) / (this.y1 - this.y0)) * this.high,
    ];
  }

  back(left, top) {
    return [
      this.x0 + ((left - this.left) / this.wide) * (this.x1 - this.x0),
      this.y0 + ((this.bottom - top) / this.high) * (this.y1 - this.y0),
    ];
  }
}

const heightOf = (width) => Math.min(520, Math.round(width * 0.75));

function draw(canvas, width, drawing) {
  const height = heightOf(width);
  const dense = devicePixelRatio || 1;
  canvas.width = width * dense;
  canvas.height = height * dense;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  paint(pen, width, drawing);
}

function saveSvg(width, drawing, title) {
  const pen = new SvgPen(width, heightOf(width));
  paint(pen, width, drawing);
  pen.download(title);
}

function paint(pen, width, { labels, bounds, field, curves, paths }) {
  const frame = new Frame(bounds, width, heightOf(width));
  axes(pen, frame, labels);
  pen.save();
  pen.beginPath();
  pen.rect(frame.left, MARGIN.top, frame.wide, frame.high);
  pen.clip();
  if (field) arrows(pen, frame, field);
  curves.forEach((curve) => contour(pen, frame, curve));
  [...paths].sort((a, b) => Boolean(b.dash) - Boolean(a.dash)).forEach((path) => trail(pen, frame, path));
  pen.restore();
}

function axes(pen, frame, [across, up]) {
  pen.strokeStyle = style("--line");
  pen.fillStyle = style("--quiet");
  pen.font = "12px system-ui, sans-serif";
  pen.strokeRect(frame.left, MARGIN.top, frame.wide, frame.high);
  const tick = (x, y, text, dx, dy) => {
    const [left, top] = frame.to(x, y);
    pen.fillText(text, left + dx, top + dy);
  };
  pen.textAlign = "center";
  ticks(frame.x0, frame.x1).forEach((x) => tick(x, frame.y0, show(x), 0, 16));
  pen.fillText(across, frame.left + frame.wide / 2, frame.bottom + 33);
  pen.textAlign = "right";
  ticks(frame.y0, frame.y1).forEach((y) => tick(frame.x0, y, show(y), -6, 4));
  pen.save();
  pen.translate(12, MARGIN.top + frame.high / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(up, 0, 0);
  pen.restore();
}

/** Arrows of one length where the field is not near zero, fainter where it is weak. */
function arrows(pen, frame, field) {
  const down = Math.round((ARROWS * frame.high) / frame.wide);
  const step = frame.wide / ARROWS;
  const all = [];
  for (let i = 0; i < ARROWS; i++) {
    for (let j = 0; j < down; j++) {
      const place = [frame.left + (i + 0.5) * step, frame.bottom - ((j + 0.5) * frame.high) / down];
      const [dx, dy] = field(...frame.back(...place));
      const [px, py] = [(dx * frame.wide) / (frame.x1 - frame.x0), (-dy * frame.high) / (frame.y1 - frame.y0)];
      all.push({ place, px, py, size: Math.hypot(px, py) });
    }
  }
  const most = Math.max(...all.map(({ size }) => size)) || 1;
  pen.strokeStyle = pen.fillStyle = style("--strong-line");
  all.filter(({ size }) => size > 1e-9 * most).forEach(({ place, px, py, size }) => {
    pen.globalAlpha = 0.3 + 0.5 * Math.sqrt(size / most);
    arrow(pen, place, (px / size) * step * 0.36, (py / size) * step * 0.36);
  });
  pen.globalAlpha = 1;
}

function arrow(pen, [x, y], dx, dy) {
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x - dx, y - dy);
  pen.lineTo(x + dx, y + dy);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x + dx, y + dy);
  pen.lineTo(x + 0.4 * dx - 0.35 * dy, y + 0.4 * dy + 0.35 * dx);
  pen.lineTo(x + 0.4 * dx + 0.35 * dy, y + 0.4 * dy - 0.35 * dx);
  pen.fill();
}

/** Where `curve` is zero: in each triangle of a grid, the line between its two sides that change sign. */
function contour(pen, frame, curve) {
  const at = (i, j) => frame.back(frame.left + (i / GRID) * frame.wide, frame.bottom - (j / GRID) * frame.high);
  const corner = (i, j) => { const [x, y] = at(i, j); return { x, y, value: curve(x, y) }; };
  pen.strokeStyle = style("--danger");
  pen.lineWidth = 2;
  pen.beginPath();
  for (let i = 0; i < GRID; i++) {
    for (let j = 0; j < GRID; j++) {
      const [a, b, c, d] = [corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)];
      [[a, b, c], [a, c, d]].forEach((triangle) => segment(pen, frame, triangle));
    }
  }
  pen.stroke();
}

function segment(pen, frame, [a, b, c]) {
  const crossed = [[a, b], [b, c], [c, a]].filter(([p, q]) => p.value < 0 !== q.value < 0).map(([p, q]) => {
    const share = p.value / (p.value - q.value);
    return frame.to(p.x + share * (q.x - p.x), p.y + share * (q.y - p.y));
  });
  if (crossed.length !== 2) return;
  pen.moveTo(...crossed[0]);
  pen.lineTo(...crossed[1]);
}

function trail(pen, frame, { points, color, dash, reached }) {
  const stroke = lineColor(color);
  const run = (from, to, width, alpha) => {
    pen.globalAlpha = alpha;
    pen.lineWidth = width;
    pen.beginPath();
    points.slice(from, to).forEach((point) => pen.lineTo(...frame.to(...point)));
    pen.stroke();
    pen.globalAlpha = 1;
  };
  pen.strokeStyle = stroke;
  pen.setLineDash(dash ? [6, 4] : []);
  run(reached - 1, points.length, 1, 0.35);
  run(0, reached, 2.25, 1);
  pen.setLineDash([]);
  if (!dash) dot(pen, frame.to(...points[0]), stroke, style("--panel"), 4);
  dot(pen, frame.to(...points[reached - 1]), stroke, stroke, dash ? 3.5 : 5);
}

function dot(pen, [x, y], stroke, fill, size) {
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
  pen.fillStyle = fill;
  pen.lineWidth = 2;
  pen.strokeStyle = stroke;
  pen.fill();
  pen.stroke();
}
