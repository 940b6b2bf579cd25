// A chart as a drawing of lines, for papers.
import { fileName, save, style } from "../page/files.js";
import { show, ticks } from "../page/numbers.js";
import { decades, line } from "./plot.js";
import { escaped } from "./svg_pen.js";

const SIZE = { width: 640, height: 400, left: 80, right: 20, top: 40, bottom: 56 };

/** Save what `plot` shows, in its ranges. */
export function saveSvg(plot, chart) {
  save(new Blob([svgOf(plot, chart)], { type: "image/svg+xml" }), fileName(chart.title, "svg"));
}

function svgOf(plot, { title, x, y, series }) {
  const [right, bottom] = [SIZE.width - SIZE.right, SIZE.height - SIZE.bottom];
  const across = place(plot.scales.x, SIZE.left, right);
  const up = place(plot.scales.y, bottom, SIZE.top);
  const [wide, high] = [right - SIZE.left, bottom - SIZE.top];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" font-family="sans-serif"
  font-size="12" fill="${style("--text")}" stroke-linejoin="round">
<rect width="100%" height="100%" fill="${style("--panel")}"/>
<clipPath id="inside"><rect x="${SIZE.left}" y="${SIZE.top}" width="${wide}" height="${high}"/></clipPath>
${text((SIZE.left + right) / 2, 24, title, 'text-anchor="middle" font-size="15" font-weight="600"')}
${text((SIZE.left + right) / 2, SIZE.height - 14, x.label, 'text-anchor="middle"')}
${text(18, (SIZE.top + bottom) / 2, y.label,
    `text-anchor="middle" transform="rotate(-90 18 ${(SIZE.top + bottom) / 2})"`)}
${marks(plot.scales.x).map((each) => grid(across(each), SIZE.top, across(each), bottom)
    + text(across(each), bottom + 18, show(each), 'text-anchor="middle"')).join("\n")}
${marks(plot.scales.y).map((each) => grid(SIZE.left, up(each), right, up(each))
    + text(SIZE.left - 8, up(each) + 4, show(each), 'text-anchor="end"')).join("\n")}
<g clip-path="url(#inside)" fill="none">
${series.map((each, index) => drawn(each, line(each, index), across, up)).join("\n")}
</g></svg>`;
}

/** From values on a scale to places between `from` and `to`; not a number where the scale has none. */
function place({ min, max, distr }, from, to) {
  const of = distr === 3 ? (value) => (value > 0 ? Math.log10(value) : NaN) : Number;
  const [low, high] = [of(min), of(max)];
  return (value) => from + ((of(value) - low) / (high - low)) * (to - from);
}

const marks = ({ min, max, distr }) => (distr === 3 ? decades(null, 0, min, max) : ticks(min, max));

const text = (x, y, label, more) => `<text x="${x}" y="${y}" ${more}>${escaped(label)}</text>`;
const grid = (x1, y1, x2, y2) => `<path d="M${x1} ${y1}L${x2} ${y2}" stroke="${style("--line")}"/>`;

function drawn({ x, y, points, dash, faint }, { stroke, width }, across, up) {
  const places = x.map((each, i) => (y[i] == null ? [NaN] : [across(each), up(y[i])]))
    .filter((pair) => pair.every(Number.isFinite)).map((pair) => pair.map((each) => each.toFixed(2)));
  const color = faint ? stroke.match(/#\w+/)[0] : stroke;
  const opacity = faint ? 0.45 : 1;
  if (points) {
    return places.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="4.5" fill="${color}" fill-opacity="${opacity}"/>`).join("");
  }
  const path = places.map((pair, i) => `${i ? "L" : "M"}${pair.join(" ")}`).join("");
  return `<path d="${path}" stroke="${color}" stroke-opacity="${opacity}" stroke-width="${width}"${dash ? ' stroke-dasharray="6 4"' : ""}/>`;
}
