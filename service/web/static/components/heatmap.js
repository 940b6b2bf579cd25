// A matrix in colours, with the number under the pointer or the arrow keys.
import { html, useEffect, useMemo, useRef, useState } from "../page/html.js";
import { saveCsv, savePng, style } from "../page/files.js";
import { extent, show } from "../page/numbers.js";
import { scheme } from "./chart.js";
import { SvgPen } from "./svg_pen.js";

const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const SMALL = 12; // up to so many rows the numbers are written into the cells
const SIDE = 720; // pixels of a small matrix, some two for each of the screen
const LEGIBLE = 17; // pixels of a font

/** `matrix` of rows, or flat `data` with its `shape`; `labels`: what rows and columns stand for. */
export function Heatmap({ matrix, data, shape, title, note, labels = ["row", "column"], children }) {
  const canvas = useRef();
  const flat = useMemo(() => data ?? Float64Array.from(matrix.flat()), [matrix, data]);
  const [rows, columns] = shape ?? [matrix.length, matrix[0].length];
  const [cell, choose] = useState(null);
  const [low, high] = useMemo(() => extent(flat), [flat]);
  const color = useMemo(() => colors(low, high), [low, high, scheme.value]);
  useEffect(() => draw(canvas.current, flat, rows, columns, color), [flat, rows, columns, color]);
  const point = (event) => {
    const box = event.target.getBoundingClientRect();
    const at = (offset, size, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / size) * count)));
    choose([at(event.clientY - box.top, box.height, rows), at(event.clientX - box.left, box.width, columns)]);
  };
  const press = (event) => {
    const step = KEYS[event.key];
    if (!step) return;
    event.preventDefault();
    const [row, column] = cell ?? [0, 0];
    choose([(row + step[0] + rows) % rows, (column + step[1] + columns) % columns]);
  };
  const lines = () => Array.from({ length: rows }, (_, row) => [...flat.slice(row * columns, (row + 1) * columns)]);
  const names = Array.from({ length: columns }, (_, column) => `${labels[1]} ${column}`);
  return html`
    <figure class="chart card">
      <figcaption>
        <h3>${title}</h3>
        <span class="menu">
          <button class="button small" onClick=${() => saveCsv(names, lines(), title)}
            aria-label=${`${title} as CSV`}>CSV</button>
          <button class="button small" onClick=${() => savePng(canvas.current, title)}
            aria-label=${`${title} as PNG`}>PNG</button>
          <button class="button small" onClick=${() => saveSvg(flat, rows, columns, color, title)}
            aria-label=${`${title} as SVG`}>SVG</button>
        </span>
      </figcaption>
      ${note && html`<p class="note">${note}</p>`}
      ${children}
      <div class="matrix">
        <span aria-hidden="true">${labels[0]}</span>
        <canvas class="heatmap" ref=${canvas} tabindex="0" role="img" onPointerMove=${point} onPointerDown=${point}
          onKeyDown=${press} aria-label=${`${title}: ${rows} rows, ${columns} columns, from ${show(low)} to ` +
          `${show(high)}; arrow keys read it`}></canvas>
        <span class="across" aria-hidden="true">${labels[1]}</span>
      </div>
      <div class="scale">
        <span class="number">${show(low)}</span>
        <${Ramp} low=${low} high=${high} color=${color} />
        <span class="number">${show(high)}</span>
      </div>
      <p class="reading" aria-live="polite">${cell && cell[0] < rows && cell[1] < columns
        ? html`${labels[0]} ${cell[0]}, ${labels[1]} ${cell[1]}: <strong class="number">${
          show(flat[cell[0] * columns + cell[1]], 7)}</strong>`
        : html`<span class="quiet">Point at a cell to read it.</span>`}</p>
    </figure>`;
}

function Ramp({ low, high, color }) {
  const canvas = useRef();
  useEffect(() => {
    const steps = Float64Array.from({ length: 96 }, (_, i) => low + (i / 95) * (high - low));
    draw(canvas.current, steps, 1, 96, color);
  }, [low, high, color]);
  return html`<canvas class="ramp" ref=${canvas} aria-hidden="true"></canvas>`;
}

/** From numbers to red, green and blue: from zero to both signs, or over the whole range where there is but one. */
function colors(low, high) {
  const [under, zero, over] = ["--heat-low", "--heat-zero", "--heat-high"].map((name) => rgb(style(name)));
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const least = low * high > 0 && low < high ? Math.min(Math.abs(low), Math.abs(high)) : 0;
  return (x) => {
    const share = Math.min(1, (Math.abs(x) - least) / (most - least));
    const end = x < 0 ? under : over;
    return zero.map((from, i) => from + (end[i] - from) * share);
  };
}

const rgb = (hex) => {
  const whole = hex.length === 4 ? hex.replace(/[^#]/g, "$&$&") : hex;
  return [1, 3, 5].map((at) => parseInt(whole.slice(at, at + 2), 16));
};

const isSmall = (rows, columns) => rows <= SMALL && columns <= SMALL;

function draw(canvas, flat, rows, columns, color) {
  const small = isSmall(rows, columns);
  const zoom = small ? Math.max(1, Math.floor(SIDE / columns)) : 1;
  canvas.width = columns * zoom;
  canvas.height = rows * zoom;
  canvas.style.imageRendering = small ? "auto" : ""; // thin strokes of digits get lost otherwise
  paint(canvas.getContext("2d"), flat, rows, columns, color, zoom);
}

function saveSvg(flat, rows, columns, color, title) {
  const zoom = SIDE / columns;
  const pen = new SvgPen(columns * zoom, rows * zoom);
  paint(pen, flat, rows, columns, color, zoom);
  pen.download(title);
}

function paint(pen, flat, rows, columns, color, zoom) {
  pen.imageSmoothingEnabled = false;
  pen.drawImage(pixels(flat, rows, columns, color), 0, 0, columns * zoom, rows * zoom);
  if (isSmall(rows, columns)) write(pen, flat, rows, columns, zoom, color);
}

function pixels(flat, rows, columns, color) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  flat.forEach((x, i) => Number.isFinite(x) && image.data.set([...color(x), 255], 4 * i));
  pen.putImageData(image, 0, 0);
  return canvas;
}

function write(pen, flat, rows, columns, zoom, color) {
  const texts = [...flat].map((x) => show(x, 3));
  const fontOf = (size) => `${size}px ${style("--sans")}`;
  pen.font = fontOf(40);
  const size = Math.min(40, (40 * 0.88 * zoom) / Math.max(...texts.map((text) => pen.measureText(text).width)));
  if (size < LEGIBLE) return;
  pen.font = fontOf(size);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  flat.forEach((x, i) => {
    const [r, g, b] = color(x);
    pen.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#14202e" : "#fff";
    pen.fillText(texts[i], ((i % columns) + 0.5) * zoom, (Math.floor(i / columns) + 0.5) * zoom);
  });
}
