// A chart of lines, with its numbers as a table, as CSV, PNG and SVG.
import uPlot from "../vendor/uplot.js";
import { effect, html, signal, useEffect, useMemo, useRef, useState } from "../page/html.js";
import { saveCsv, savePng } from "../page/files.js";
import { indexAt, show } from "../page/numbers.js";
import { aligned, options, said } from "./plot.js";
import { saveSvg } from "./svg.js";

const MOST_IN_LEGEND = 12;
const ROWS = 40;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Counts changes between light and dark: what is drawn on a canvas must be drawn again. */
export const scheme = signal(0);
dark.addEventListener("change", () => { scheme.value += 1; });

/**
 * `series`: [{label, x, y, dash?, color? ("--s1"), width?, faint?, points?,
 * unlisted?}]; `bands`: [{upper, lower}] indices of series;
 * `at`: signal with the x under the slider, or null; `onSelect`: called with an x that was clicked.
 */
export function Chart({ title, note, height = 230, at, onSelect, ...chart }) {
  const place = useRef();
  const plot = useRef();
  const hover = useMemo(() => signal(null), []);
  const latest = useRef();
  latest.current = { ...chart, onSelect };
  const { series, x, y } = chart;
  const form = JSON.stringify([
    scheme.value, x, y, chart.bands, series.map(({ label, dash, color, points }) => [label, dash, color, points]),
  ]);
  useEffect(() => {
    const settings = { ...chart, hooks: { setCursor: [(u) => { hover.value = u.data[0][u.cursor.idx] ?? null; }] } };
    const made = new uPlot(options(settings, place.current.clientWidth, height), aligned(series, x, y), place.current);
    plot.current = made;
    const undo = [follow(made, place.current), mark(made, at), click(made, latest)];
    return () => {
      undo.forEach((each) => each());
      made.destroy();
      plot.current = null;
    };
  }, [form, height, at]);
  const data = series.map((each) => each.y);
  useEffect(() => plot.current?.setData(aligned(series, x, y)), [...data.slice(0, 200), data.length, form]);
  return html`
    <figure class="chart card lines">
      <figcaption>
        <h3>${title}</h3>
        <${Menu} title=${title} ...${chart} plot=${plot} />
      </figcaption>
      ${note && html`<p class="note">${note}</p>`}
      <div class="plot" ref=${place} role="img" aria-label=${said({ title, ...chart })}></div>
      <${Legend} series=${series} at=${at} hover=${hover} />
    </figure>`;
}

/** Keep a plot as wide as its place. */
function follow(plot, place) {
  const watch = new ResizeObserver(() => {
    if (place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: plot.height });
  });
  watch.observe(place);
  return () => watch.disconnect();
}

/** The line at the chosen x, moved without drawing the chart again. */
function mark(plot, at) {
  if (!at) return () => {};
  const line = plot.over.appendChild(document.createElement("div"));
  line.className = "mark";
  const move = () => {
    const left = at.value == null ? NaN : plot.valToPos(Math.max(at.value, plot.scales.x.min), "x");
    line.hidden = Number.isNaN(left);
    line.style.transform = `translateX(${Math.min(left, plot.over.clientWidth)}px)`; // one that records less often ends before
  };
  plot.hooks.draw = [...(plot.hooks.draw ?? []), move];
  return effect(move);
}

function click(plot, latest) {
  const choose = () => {
    const { left } = plot.cursor;
    if (left >= 0 && plot.select.width === 0) latest.current.onSelect?.(plot.posToVal(left, "x"));
  };
  plot.over.addEventListener("click", choose);
  return () => plot.over.removeEventListener("click", choose);
}

function Legend({ series, at, hover }) {
  const x = hover.value ?? at?.value;
  const value = ({ x: xs, y }) => (x == null || !xs.length ? "" : show(y[indexAt(xs, x)]));
  const named = series.map((each, index) => ({ ...each, color: each.color ?? `--s${(index % 8) + 1}` }))
    .filter((each) => each.label && !each.unlisted);
  return html`
    <ul class="legend" aria-hidden="true">
      ${named.slice(0, MOST_IN_LEGEND).map((each) => html`
        <li>
          <svg width="20" height="8" aria-hidden="true">
            ${each.points
              ? html`<circle cx="10" cy="4" r="4" fill=${`var(${each.color})`} />`
              : html`<line x1="0" y1="4" x2="20" y2="4" stroke-width="2.5" stroke=${`var(${each.color})`}
                  stroke-dasharray=${each.dash ? "5 3" : null} />`}
          </svg>
          ${each.label} <span class="number">${value(each)}</span>
        </li>`)}
      ${named.length > MOST_IN_LEGEND && html`<li class="quiet">and ${named.length - MOST_IN_LEGEND} more</li>`}
    </ul>`;
}

function Menu({ title, x, y, series, plot }) {
  const [open, toggle] = useState(false);
  const names = [x.label, ...series.map((each, index) => each.label || `line ${index + 1}`)];
  const rows = () => { // all numbers, also those that a logarithmic axis has no place for
    const columns = aligned(series, { ...x, log: false }, { ...y, log: false });
    return columns[0].map((_, row) => columns.map((column) => column[row]));
  };
  return html`
    <span class="menu">
      <button class="button small" aria-pressed=${open} onClick=${() => toggle(!open)}
        aria-label=${`Table of ${title}`}>Table</button>
      <button class="button small" onClick=${() => saveCsv(names, rows(), title)}
        aria-label=${`${title} as CSV`}>CSV</button>
      <button class="button small" onClick=${() => savePng(plot.current.ctx.canvas, title)}
        aria-label=${`${title} as PNG`}>PNG</button>
      <button class="button small" onClick=${() => saveSvg(plot.current, { title, x, y, series })}
        aria-label=${`${title} as SVG`}>SVG</button>
    </span>
    ${open && html`<${Table} title=${title} names=${names} rows=${rows()} />`}`;
}

function Table({ title, names, rows }) {
  const every = Math.ceil(rows.length / ROWS);
  const shown = rows.filter((_, row) => row % every === 0 || row === rows.length - 1);
  return html`
    <div class="table" tabindex="0" role="region" aria-label=${`Numbers of ${title}`}>
      <table>
        <thead><tr>${names.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
        <tbody>${shown.map((row) => html`<tr>${row.map((cell) => html`<td>${show(cell)}</td>`)}</tr>`)}</tbody>
      </table>
      ${every > 1 && html`<p class="quiet">One row in ${every}; the CSV has all ${rows.length}.</p>`}
    </div>`;
}
