// A run as the page knows it: what was recorded when it was opened, and every point since.
import { signal } from "./html.js";
import { follow, get } from "./api.js";
import { hasParts } from "./numbers.js";

const MOST_POINTS = 2000; // of each quantity at first: more than a screen has columns
const REDRAW_MS = 150;
const STEADY = new Set(["kind", "seq", "at", "step", "time"]);

/**
 * `run`: what the service says of it; `series`: a Map from names such as "loss" or "slopes/measured" to
 * {step, time, value}; it is the same Map, grown, each time the signal fires. `state`: "open", "lost" or "ended".
 */
export class Watched {
  constructor(id) {
    this.path = `/runs/${id}`;
    this.run = signal(null);
    this.series = signal({ all: new Map() });
    this.state = signal("open");
    this.error = signal(null);
    this.stop = new AbortController();
    this.timer = null;
  }

  /** Load it, then follow it until it ends or is closed. */
  async open() {
    this.error.value = null;
    try {
      await this.load();
    } catch (error) {
      if (!this.stop.signal.aborted) this.error.value = error;
    }
  }

  async load() {
    const { series, ...run } = await get(`${this.path}?max_points=${MOST_POINTS}`, { signal: this.stop.signal });
    const all = new Map();
    Object.entries(series).forEach(([name, columns]) => spread(all, name, columns, columns.value));
    this.run.value = run;
    this.series.value = { all };
    await follow(`${this.path}/events`, {
      after: lastSeen(run.progress),
      signal: this.stop.signal,
      onEvent: (event) => this.take(event),
      onState: (state) => this.turn(state),
    });
  }

  close() {
    this.stop.abort();
    clearTimeout(this.timer);
  }

  turn(state) {
    const back = this.state.value === "lost" && state !== "lost";
    this.state.value = state;
    if (back || state === "ended") this.refresh();
  }

  take(event) {
    if (event.kind === "point") return this.add(event);
    if (event.kind === "progress") return this.progress(event);
    return this.refresh();
  }

  add(point) {
    Object.entries(point).filter(([name]) => !STEADY.has(name))
      .forEach(([name, value]) => grow(this.series.value.all, name, point, value));
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.series.value = { all: this.series.value.all };
    }, REDRAW_MS);
  }

  progress({ fraction, step, time, seconds_left }) {
    const run = this.run.value;
    const progress = { ...run.progress, fraction, step, time, seconds_left };
    this.run.value = { ...run, status: "running", meaning: "It is computing.", seconds_left, progress };
  }

  /** What may have changed beside the points; a lost connection is told of elsewhere. */
  async refresh() {
    const { series, ...run } = await get(`${this.path}?fields=`, { signal: this.stop.signal }).catch(() => ({}));
    if (run.id) this.run.value = run;
  }
}

/** The number of the last event that a run's counts include: it began with one, and each has its own number. */
const lastSeen = ({ points, segments }) => (points + segments > 0 ? points + segments : -1);

function spread(all, name, columns, value) {
  if (hasParts(value)) {
    Object.entries(value).forEach(([part, each]) => spread(all, `${name}/${part}`, columns, each));
  } else {
    all.set(name, { step: [...columns.step], time: [...columns.time], value });
  }
}

function grow(all, name, point, value) {
  if (hasParts(value)) {
    Object.entries(value).forEach(([part, each]) => grow(all, `${name}/${part}`, point, each));
    return;
  }
  if (!all.has(name)) all.set(name, { step: [], time: [], value: [] });
  const series = all.get(name);
  if (series.time.length && point.time <= series.time.at(-1)) return; // it came with the run itself
  series.step.push(point.step);
  series.time.push(point.time);
  series.value.push(value);
}
