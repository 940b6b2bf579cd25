// A run, live: its progress, charts of all that it recorded, and one time for all of them.
import { html, useComputed, useEffect, useMemo, useState } from "../page/html.js";
import { get } from "../page/api.js";
import { Watched } from "../page/run.js";
import { Chart } from "../components/chart.js";
import { Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { Status, ended } from "../components/status.js";
import { Downloads } from "./run_downloads.js";
import { Scrubber, clock } from "./run_time.js";
import { chartsOf, membersOf } from "./run_charts.js";
import { panelsOf } from "./run_panels.js";

const FIRST = 3; // charts above the kernel and the plane

export function RunView({ id, query }) {
  const watched = useMemo(() => new Watched(id), [id]);
  useEffect(() => {
    watched.open();
    return () => watched.close();
  }, [watched]);
  const error = watched.error.value;
  const run = watched.run.value;
  if (error) return html`
    <h1>A run</h1>
    <${Problem} error=${error} retry=${() => watched.open()}><p><a href="#/runs">All runs</a></p><//>`;
  if (!run) return html`<h1>A run</h1><${Loading} what="Loading the run" />`;
  return html`<${Shown} watched=${watched} run=${run} query=${query} />`;
}

function Shown({ watched, run, query }) {
  const { all } = watched.series.value;
  const time = useMemo(() => clock(query, run.spec), [watched]);
  const at = useComputed(() => time.chosen.value ?? time.last.value);
  const longest = [...all.values()].reduce((best, each) => (each.time.length > best.length ? each.time : best), []);
  useEffect(() => { time.last.value = longest.at(-1) ?? null; }, [longest.at(-1)]);
  const charts = useMemo(() => chartsOf(all, run), [watched.series.value, run.spec]);
  const x = { label: "training time t", log: time.log.value };
  const choose = (value) => time.choose(value);
  const drawn = charts.map((chart) => html`
    <${Chart} key=${chart.title} ...${chart} x=${x} at=${at} onSelect=${choose} sync="time" />`);
  return html`
    <${Title} run=${run} />
    <${Status} job=${run} onGone=${() => { location.hash = "#/runs"; }} onChange=${() => watched.refresh()}>
      <a class="button" href=${`#/compare?ids=${run.id}`}>Compare</a>
    <//>
    <${Connection} state=${watched.state.value} run=${run} />
    ${longest.length > 0
      ? html`<${Scrubber} times=${longest} time=${time} at=${at} perStep=${run.time_per_step} />`
      : !ended(run) && html`<${Loading} what=${run.status === "queued" ? "Waiting for a free process" : "Computing"} />`}
    <h2 class="unseen">Charts</h2>
    <div class="charts" data-points=${longest.length}>
      ${drawn.slice(0, FIRST)}
      ${panelsOf(all, run).map(({ Panel, name }) => html`
        <${Panel} key=${name} all=${all} run=${run} at=${at} version=${watched.series.value} />`)}
      ${drawn.slice(FIRST)}
    </div>
    <${Downloads} run=${run} />`;
}

function Title({ run }) {
  const [experiment, show] = useState(null);
  useEffect(() => {
    if (run.experiment) get(`/experiments/${run.experiment}`).then(show, () => {});
  }, [run.experiment]);
  const name = experiment?.title ?? nameOf(run.spec);
  useEffect(() => { document.title = `${name} · ntkengine`; }, [name]);
  return html`
    <h1>${name}</h1>
    <p class="quiet">${experiment?.shows} ${facts(run)}</p>`;
}

const words = (kind) => ({ ntk: "NTK", mup: "muP" })[kind] ?? kind.replaceAll("_", " ");

function nameOf({ model }) {
  const widths = model.layers.map(({ width }) => width).filter(Boolean);
  const others = [...new Set(model.layers.filter(({ width }) => !width).map(({ kind }) => words(kind)))];
  return `Network of width ${widths.join("-")}${others.length ? `, ${others.join(", ")}` : ""}`;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

function facts({ spec, time_unit: unit, created_at: created }) {
  const members = membersOf(spec);
  return `${sentence(words(spec.model.parameterization.kind))} parameterization, ${words(spec.training.kind)}${
    members ? `, ${members} members` : ""}. Started ${new Date(created).toLocaleString()}.${
    unit ? ` Unit of time: ${unit.split(";")[0].replaceAll("_", " ")}.` : ""}`;
}

function Connection({ state, run }) {
  const lost = state === "lost" && !ended(run);
  return html`<div role="status" class=${lost ? "banner" : "unseen"}>${lost && html`
    <strong>The connection is lost.</strong>
    <p>What was recorded is kept. This page goes on by itself as soon as the service answers again.</p>`}</div>`;
}
