// Beside a form: what it would cost, where it can be shared, and the same as programs.
import { html, useEffect, useState } from "../page/html.js";
import { post } from "../page/api.js";
import { curl, engine, python } from "../page/code.js";
import { Code, Copy } from "../components/copy.js";
import { duration } from "../components/status.js";
import { addressOf } from "./compose_form.js";

const POWERS = ["", "thousand", "million", "billion", "trillion", "quadrillion"];

/** A large count in words: "1.2 billion". */
export function counted(number) {
  const power = Math.min(POWERS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, number)) / 3)));
  return `${Number((number / 1000 ** power).toPrecision(2))} ${POWERS[power]}`.trim();
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes in words: "1.2 GiB". */
export function sized(bytes) {
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${UNITS[power]}`;
}

/** What an estimate says, as rows of a name and a value; what it does not know is left out. */
const ROWS = [
  ["Size", ({ shape }) => shape?.join(" × ")], ["Moments recorded", ({ points }) => points?.toLocaleString("en")],
  ["Widths and scales", ({ cases }) => cases], ["Combinations", ({ combinations }) => combinations],
  ["Time on one core", ({ seconds }) => (seconds === undefined ? null : duration(seconds))],
  ["Operations", ({ flops }) => counted(flops)], ["Memory", ({ bytes }) => sized(bytes)],
  ["On disk", ({ disk_bytes: disk, bytes_kept: kept }) => ((disk ?? kept) ? sized(disk ?? kept) : null)],
  ["Answered", ({ answered }) => answered], ["How", ({ implementation: how }) => how?.replaceAll("_", " ")],
];

/** What `POST <path>` says of a spec; `onFound` is told what is wrong, and the estimate. */
export function Cost({ path, title, spec, isSettled, onFound }) {
  const [estimate, keep] = useState(null);
  const text = JSON.stringify(spec);
  useEffect(() => {
    if (!isSettled) return undefined;
    let isStale = false;
    const take = (found, errors) => {
      if (isStale) return;
      keep(found);
      onFound(errors, found);
    };
    post(path, spec).then((found) => take(found, []), (error) => take(null, error.problem?.errors ?? []));
    return () => { isStale = true; };
  }, [text, isSettled]);
  if (!estimate) return html`<p class="quiet cost">No estimate yet.</p>`;
  const rows = ROWS.map(([name, of]) => [name, of(estimate)]);
  return html`
    <h2>${title}</h2>
    <dl class="cost">${rows.filter(([, value]) => value != null).map(([name, value]) => html`
      <div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** The address that opens this spec. */
export const Share = ({ view, spec }) => html`
  <p class="share"><${Copy} text=${`${location.origin}/${addressOf(view, spec)}`} label="Copy its address" /></p>`;

const LANGUAGES = {
  curl: (path, spec) => curl(location.origin, path, spec),
  "Python, over HTTP": (path, spec) => python(location.origin, path, spec),
  "Python, no server": engine,
};

/** The same request as programs. */
export function Programs({ path, spec }) {
  const [language, choose] = useState("curl");
  return html`
    <section class="programs" aria-label="As a program">
      <div class="tabs" role="group" aria-label="Language">
        ${Object.keys(LANGUAGES).map((each) => html`
          <button type="button" class="button small" aria-pressed=${each === language} onClick=${() => choose(each)}>${each}</button>`)}
      </div>
      <${Code} label=${language} text=${LANGUAGES[language](path, spec)} />
    </section>`;
}
