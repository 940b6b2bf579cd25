// A regime report for people who do not know the theory: the verdict first, then the evidence behind it.
import { html } from "../page/html.js";
import { fileName, save } from "../page/files.js";
import { show } from "../page/numbers.js";
import { Chart } from "../components/chart.js";
import { Interval } from "./regime_interval.js";

const VERDICTS = {
  lazy: ["In the kernel regime", "Kernel theory describes how this network trains."],
  rich: ["Not in the kernel regime", "This network learns features; the kernel of its start does not describe its training."],
  between: ["Near the kernel regime, but not in it", "Kernel theory describes its training roughly."],
  undetermined: ["Cannot be said yet", "The network was not trained far enough to tell."],
};

const ASSUMPTIONS = {
  gradient_flow: "Training is continuous (gradient flow)",
  squared_loss: "The loss is a squared error",
  full_batch: "Every step uses all points",
  plain_descent: "Plain descent: no momentum, decay or adaptive steps",
};

const percent = (value) => `${show(100 * value, 2)} %`;

export function Report({ report, id }) {
  const [headline, meaning] = VERDICTS[report.verdict];
  const own = report.widths.find((row) => row.width === report.width) ?? report.widths[0];
  const [, ...reasons] = report.reasons;
  return html`
    <article class="report">
      <header class=${`verdict card ${report.verdict}`}>
        <p><span class=${`badge ${report.verdict}`}>${report.verdict}</span></p>
        <h1>${headline}</h1>
        <p class="lead">${meaning}</p>
        <p class="quiet">${own.width === null ? "A network of your own" : `Width ${own.width}`}, ${own.seeds} seeds.</p>
      </header>
      <${Evidence} own=${own} thresholds=${report.thresholds} />
      <section class="card" aria-label="Why">
        <h2>Why</h2>
        <ul class="reasons">${reasons.map((reason) => html`<li>${reason}</li>`)}</ul>
      </section>
      <${ByWidth} report=${report} />
      <div class="figures">
        <${Advice} advice=${report.advice} limit=${report.learning_rate_limit} />
        <${Assumptions} assumptions=${report.assumptions} />
        <${Definitions} report=${report} id=${id} />
      </div>
    </article>`;
}

/** What the verdict is made of: [question, in words, interval, limits, what kind of comparison]. */
function evidence(own, limits) {
  const linear = own.linearization_error ?? {};
  return [
    { asks: "Was it trained far enough?", says: "Share of the loss that was trained away", of: own.trained_share,
      needs: "least", limit: limits.trained_share },
    { asks: "Did its kernel stand still?", says: "Change of the kernel from start to end, relative to its size",
      of: own.kernel_change, needs: "most", limit: limits.lazy_kernel_change, rich: limits.rich_kernel_change },
    { asks: "Is it like a linear model, where it was trained?",
      says: "Distance of the linearized network, of the way that training moved the outputs",
      of: linear.train, needs: "most", limit: limits.lazy_linearization_error },
    { asks: "And on the test points?", says: "The same where it was not trained",
      of: linear.test, needs: "most", limit: limits.lazy_linearization_error },
  ].filter((row) => row.of && row.limit !== undefined);
}

// Whether a condition of the kernel regime holds, by the end of the interval that decides.
const DECIDES = {
  least: ({ of, limit }) => (of.median >= limit ? "yes" : "no"),
  most: ({ of, limit, rich }) => (of.high < limit ? "yes" : of.low >= (rich ?? limit) ? "no" : "not surely"),
};
const BOUND = { least: "at least", most: "below" };

function Evidence({ own, thresholds }) {
  const rows = evidence(own, thresholds);
  return html`
    <section class="card" aria-label="Evidence">
      <h2>The evidence</h2>
      <div class="rows" tabindex="0" role="region" aria-label="Table of the evidence">
        <table class="evidence">
          <thead><tr>
            <th scope="col">Question</th><th scope="col">Measured</th><th scope="col">Needed</th>
            <th scope="col"><span class="unseen">Picture</span></th><th scope="col">So</th>
          </tr></thead>
          <tbody>${rows.map((row) => html`
            <tr>
              <th scope="row">${row.asks}<span class="quiet">${row.says}</span></th>
              <td class="number">${percent(row.of.median)}
                <span class="quiet">${percent(row.of.low)} to ${percent(row.of.high)}</span></td>
              <td class="number">${BOUND[row.needs]} ${percent(row.limit)}</td>
              <td><${Interval} ...${row} /></td>
              <td><span class=${`answer ${DECIDES[row.needs](row).replace(" ", "-")}`}>${DECIDES[row.needs](row)}</span></td>
            </tr>`)}</tbody>
        </table>
      </div>
      <p class="quiet">Medians over ${own.seeds} seeds; below them, intervals from resampling the seeds.</p>
    </section>`;
}

const MEASURES = [
  ["kernel_change", "Change of the kernel", (row) => row.kernel_change, "kernel_change"],
  ["linearization", "Linearized network apart, training", (row) => row.linearization_error?.train,
    "linearization_error_train"],
  ["linearization_test", "Linearized network apart, test", (row) => row.linearization_error?.test,
    "linearization_error_test"],
  ["weight_change", "Change of the weights", (row) => row.weight_change, "weight_change"],
];

function ByWidth({ report }) {
  if (report.widths.length < 2) return null;
  const charts = MEASURES.map(([key, title, of, name]) => ({ key, title, of, fitted: report.exponents?.[name] }))
    .map((each) => ({ ...each, rows: report.widths.filter((row) => each.of(row)?.median > 0) }))
    .filter(({ rows }) => rows.length > 1);
  return html`
    <section aria-label="By width">
      <h2>How it depends on the width</h2>
      <div class="figures">
        ${charts.map(({ key, title, of, fitted, rows }) => html`
          <${Chart} key=${key} title=${title} note=${power(fitted)} x=${{ label: "width", log: true }}
            y=${{ label: "relative", log: true }} series=${lines(rows, of, fitted)} />`)}
        <${TestErrors} rows=${report.widths} />
      </div>
    </section>`;
}

const power = (fitted) => (fitted
  ? `Goes as width to the power ${fitted.slope.toFixed(2)} (${fitted.low.toFixed(2)} to ${fitted.high.toFixed(2)}).` : null);

function lines(rows, of, fitted) {
  const x = rows.map((row) => row.width);
  const measured = [
    { label: "median", x, y: rows.map((row) => of(row).median), points: true, color: "--s1" },
    { label: "", x, y: rows.map((row) => of(row).high), color: "--s8", dash: true },
    { label: "interval", x, y: rows.map((row) => of(row).low), color: "--s8", dash: true },
  ];
  if (!fitted) return measured;
  const logs = rows.map((row) => Math.log(of(row).median) - fitted.slope * Math.log(row.width));
  const factor = Math.exp(logs.reduce((sum, value) => sum + value, 0) / logs.length);
  return [...measured, { label: "fitted power", x, y: x.map((width) => factor * width ** fitted.slope), color: "--s2" }];
}

const WHO = { network: "The network", linearized: "Linearized", kernel: "Kernel regression" };

function TestErrors({ rows }) {
  const known = Object.keys(WHO).filter((who) => rows.some((row) => row.test_error?.[who]));
  if (!known.length) return null;
  return html`
    <section class="card" aria-label="Test errors">
      <h3>Errors on the test points</h3>
      <table class="errors">
        <thead><tr><th scope="col">Width</th>${known.map((who) => html`<th scope="col">${WHO[who]}</th>`)}</tr></thead>
        <tbody>${rows.map((row) => html`
          <tr><th scope="row">${row.width}</th>
            ${known.map((who) => html`<td class="number">${row.test_error[who] ? show(row.test_error[who].median, 3) : ""}</td>`)}</tr>`)}
        </tbody>
      </table>
    </section>`;
}

function Advice({ advice, limit }) {
  if (!advice && limit == null) return null;
  const what = advice && (advice.change === "width" ? "width" : "output scale");
  const value = advice?.[advice.change];
  return html`
    <section class="card" aria-label="Advice">
      <h2>What to do</h2>
      ${advice && value !== undefined && html`<p>With ${what} <strong class="number">${show(value)}</strong> it would be in the
        kernel regime within ${percent(advice.tolerance)}${advice.holds ? ": it was trained there, and it is." : "."}</p>`}
      ${advice?.reason && html`<p>${advice.reason[0].toUpperCase() + advice.reason.slice(1)}.</p>`}
      ${limit != null && html`<p>By the kernel at the start, training is stable for learning rates below
        <strong class="number"> ${show(limit, 3)}</strong>.</p>`}
    </section>`;
}

const Assumptions = ({ assumptions }) => html`
  <section class="card" aria-label="Assumptions">
    <h2>What the theory assumes</h2>
    <ul class="assumptions">${assumptions.map(({ assumption, holds, detail }) => html`
      <li class=${holds ? "holds" : "fails"}><strong>${ASSUMPTIONS[assumption] ?? assumption.replaceAll("_", " ")}</strong>
        ${" "}<span class="quiet">${holds ? "holds here" : `not here: ${detail}`}</span></li>`)}</ul>
  </section>`;

function Definitions({ report, id }) {
  const download = () => save(new Blob([JSON.stringify(report, null, 1)]), fileName(`regime ${id}`, "json"));
  return html`
    <section class="card" aria-label="What the words mean">
      <h2>What the words mean</h2>
      ${report.definitions && html`<dl class="words">${Object.entries(report.definitions).map(([word, text]) => html`
        <dt>${word}</dt><dd>${filled(text, report.thresholds)}</dd>`)}</dl>`}
      <button class="button" onClick=${download}>Download all numbers</button>
    </section>`;
}

/** A definition with the thresholds' values after their names. */
const filled = (text, thresholds) => Object.entries(thresholds).reduce(
  (said, [name, value]) => said.replaceAll(new RegExp(`\\b${name}\\b`, "g"), percent(value)), text);
