// An interval on a logarithmic line, with the limits that it is compared with.
import { html } from "../page/html.js";

const WIDTH = 180;
const HEIGHT = 34;
const MIDDLE = 14;
const DECADES = [-3, 1]; // from a thousandth to ten times

const LINES = {
  most: (value) => {
    const log = Math.log10(Math.max(value, 1e-12));
    return (WIDTH * (Math.min(Math.max(log, DECADES[0]), DECADES[1]) - DECADES[0])) / (DECADES[1] - DECADES[0]);
  },
  least: (value) => WIDTH * Math.min(Math.max(value, 0), 1), // a share, from none to all
};

/** `of`: {median, low, high}; `needs`: "most" or "least" of `limit`; `rich`: from where on it is the opposite. */
export function Interval({ of, needs, limit, rich }) {
  const at = LINES[needs];
  const edge = at(limit);
  const [from, to] = needs === "most" ? [0, edge] : [edge, WIDTH];
  return html`
    <svg class="interval" viewBox=${`-4 0 ${WIDTH + 8} ${HEIGHT}`} width=${WIDTH + 8} height=${HEIGHT} aria-hidden="true">
      <rect class="good" x=${from} y="2" width=${to - from} height=${2 * MIDDLE - 4} rx="2" />
      ${rich !== undefined && html`<rect class="bad" x=${at(rich)} y="2" width=${WIDTH - at(rich)} height=${2 * MIDDLE - 4} rx="2" />`}
      <line class="axis" x1="0" x2=${WIDTH} y1=${MIDDLE} y2=${MIDDLE} />
      <line class="limit" x1=${edge} x2=${edge} y1="0" y2=${2 * MIDDLE} />
      <line class="whisker" x1=${at(of.low)} x2=${at(of.high)} y1=${MIDDLE} y2=${MIDDLE} />
      <circle class="median" cx=${at(of.median)} cy=${MIDDLE} r="4" />
    </svg>`;
}
