// The function that is learned, on a line of inputs, beside what kernels predict of it.
import { html, useEffect, useMemo, useState } from "../page/html.js";
import { post } from "../page/api.js";
import { networkOf, weightsAt } from "../page/neurons.js";
import { extent, indexAt, show } from "../page/numbers.js";
import { Chart } from "../components/chart.js";
import { membersOf } from "./run_charts.js";

const GRID = 61;
const MOMENTS = 30;
const STARTS = 4; // decades before the end of training from which on moments are asked for
const MOST_POINTS = 200;

export function hasFunction(all, { spec }) {
  const { x, y } = spec.data;
  const onLine = Array.isArray(x) && Array.isArray(y) && x.length <= MOST_POINTS && x.every((row) => row.length === 1);
  return onLine && y[0].length === 1 && Array.isArray(all.get("outputs")?.value[0]);
}

export function FunctionPanel({ all, run, at }) {
  const { data } = run.spec;
  const members = membersOf(run.spec);
  const grid = useMemo(() => lineOf(data), [run.id]);
  const { infinite, own, error } = usePredictions(run, grid, members === null);
  const moment = at.value ?? Infinity;
  const series = [
    ...bandOf(infinite, grid, moment),
    ...own ? [{ label: "kernel at the start of this network", x: grid, y: predicted(own, moment).mean, color: "--s2", dash: true }] : [],
    ...networks(all, run, grid, moment, members),
    { label: "training points", x: data.x.flat(), y: data.y.flat(), color: "--danger", points: true },
  ];
  const bands = infinite ? [{ upper: 0, lower: 1 }] : [];
  const note = error ? `No prediction: ${error.message}` : noteOf(infinite, moment);
  return html`<${Chart} title="Learned function" note=${note} series=${series} bands=${bands}
    x=${{ label: "x" }} y=${{ label: "f(x)" }} height=${280} />`;
}

function noteOf(prediction, moment) {
  if (!prediction) return "Waiting for the kernel's prediction.";
  const scaled = prediction.scaling?.width_power;
  return `Infinite width: mean and two standard deviations over initial weights, ${
    scaled ? "at the end of training" : `at t = ${show(predicted(prediction, moment).time)}`}.`;
}

/** Inputs over all points, and a little beyond, training points among them. */
function lineOf({ x, x_test: test }) {
  const known = [...x.flat(), ...(Array.isArray(test) ? test.flat() : [])];
  const [low, high] = extent(known);
  const room = 0.2 * (high - low || 2);
  const even = Array.from({ length: GRID }, (_, i) => low - room + (i / (GRID - 1)) * (high - low + 2 * room));
  return [...new Set([...even, ...known])].sort((a, b) => a - b);
}

function usePredictions(run, grid, single) {
  const [found, keep] = useState({});
  useEffect(() => {
    const ask = (of, covariance) => post("/predict", question(run, grid, of, covariance)).then(readable);
    const fail = (error) => keep((before) => ({ ...before, error }));
    ask({ kind: "infinite" }, true).then((infinite) => keep((before) => ({ ...before, infinite })), fail);
    const { seed, weights, training } = run.spec;
    const start = weights ? { weights } : { seed: seed ?? 0 };
    if (single && training.kind !== "mean_field") ask({ kind: "empirical", ...start }, false).then((own) => keep((before) => ({ ...before, own })), fail);
  }, [run.id]);
  return found;
}

function question({ spec, time_per_step: step }, grid, of, covariance) {
  const { model, data, training } = spec;
  const end = training.t_end ?? training.steps * (step ?? training.learning_rate);
  const moments = Array.from({ length: MOMENTS }, (_, i) => end * 10 ** (-STARTS * (1 - i / (MOMENTS - 1))));
  return {
    model, of, covariance,
    data: { x: data.x, y: data.y, x_test: grid.map((x) => [x]) },
    training: { kind: "gradient_flow", times: [0, ...moments, "inf"], loss: training.loss },
  };
}

/** Means and deviations by moment. */
function readable({ times, mean_test: means, covariance_test: covariances, scaling }) {
  const mean = means.map((each) => each.map(([value]) => value));
  const deviation = covariances?.map((each) => each.map((row, i) => Math.sqrt(Math.max(0, row[i]))));
  return { times: times.map(Number), mean, deviation, scaling };
}

/**
 * A prediction at `moment`, on the line between those of the moments around it, a third apart: less than 1 % of what
 * changes. Where the kernel grows or falls with width, its time is another one, and only the end can be compared.
 */
function predicted({ times, mean, deviation, scaling }, moment) {
  const last = times.length - 1;
  if (scaling?.width_power) return { time: Infinity, mean: mean[last], deviation: deviation?.[last] };
  const from = Math.max(0, indexAt(times.slice(0, last), moment));
  const to = Math.min(from + 1, last - 1);
  const share = to > from ? Math.min(1, Math.max(0, (moment - times[from]) / (times[to] - times[from]))) : 0;
  const between = (each) => each?.[from].map((value, i) => value + share * (each[to][i] - value));
  return { time: Math.min(moment, times[last - 1]), mean: between(mean), deviation: between(deviation) };
}

function bandOf(prediction, grid, moment) {
  if (!prediction) return [];
  const { mean, deviation } = predicted(prediction, moment);
  const line = (y, more) => ({ x: grid, y, color: "--s6", ...more });
  return [
    line(mean.map((each, i) => each + 2 * deviation[i]), { faint: true, width: 1 }),
    line(mean.map((each, i) => each - 2 * deviation[i]), { faint: true, width: 1 }),
    line(mean, { label: "kernel of infinite width", dash: true }),
  ];
}

/** The trained function: on the whole line where its weights are at hand, else on the points where it was recorded. */
function networks(all, run, grid, moment, members) {
  const outputs = all.get("outputs");
  const i = indexAt(outputs.time, moment);
  const each = members === null ? [null] : Array.from({ length: Math.min(members, 40) }, (_, member) => member);
  return each.map((member, place) => ({
    label: place ? "" : "network", color: "--s1", width: each.length > 1 ? 1 : 2,
    ...(wholeLine(all, run, grid, i, member) ?? onPoints(all, run, i, member)),
  }));
}

function wholeLine(all, { spec }, grid, i, member) {
  const network = networkOf(spec);
  const weights = network && sameMoment(all, i, member);
  const value = all.get("outputs").value[i];
  if (!weights || !network.agrees(weights, (member === null ? value : value[member]).flat())) return null;
  return { x: grid, y: grid.map((x) => network.output(weights, x)) };
}

function sameMoment(all, i, member) {
  const at = all.get("weights/layers.0.W")?.time.indexOf(all.get("outputs").time[i]) ?? -1;
  return at < 0 ? null : weightsAt(all, "weights", at, member);
}

function onPoints(all, { spec }, i, member) {
  const on = (xs, name) => {
    const value = all.get(name)?.value[i];
    if (!Array.isArray(xs) || !value) return [];
    const own = (member === null ? value : value[member]).flat();
    return xs.flat().map((x, at) => [x, own[at]]);
  };
  const pairs = [...on(spec.data.x, "outputs"), ...on(spec.data.x_test, "outputs_test")].sort(([a], [b]) => a - b);
  return { x: pairs.map(([x]) => x), y: pairs.map(([, y]) => y) };
}
