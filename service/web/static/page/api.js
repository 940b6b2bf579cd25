// Requests to the service: JSON in and out, arrays, and streams of events that survive lost connections.
import { signal } from "./html.js";

const SILENCE_MS = 45_000; // the service says something every 15 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8_000;
const KEY = "ntk.key";
const FINAL = new Set(["finished", "failed", "cancelled"]);

/** What waits for a key: null, or a function to call with the key that was entered. */
export const keyWanted = signal(null);

/** An answer that is no success, with what the service says about it. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The service answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

/** The service was not reached. */
export class LostConnection extends Error {
  constructor() {
    super("The service does not answer.");
  }
}

export const key = () => sessionStorage.getItem(KEY);

async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key()) headers.set("Authorization", `Bearer ${key()}`);
  const answer = await fetch(path, { ...options, headers }).catch((error) => {
    throw error.name === "AbortError" ? error : new LostConnection();
  });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ title: answer.statusText }));
  if (answer.status !== 401) throw new ApiError(answer.status, problem);
  await enteredKey();
  return send(path, options);
}

let asking = null; // requests that are refused together ask once

function enteredKey() {
  asking ??= new Promise((resolve) => {
    keyWanted.value = (entered) => {
      sessionStorage.setItem(KEY, entered);
      keyWanted.value = asking = null;
      resolve();
    };
  });
  return asking;
}

/** A body cut off by a lost connection is a lost connection, too. */
const whole = (reading) => reading.catch((error) => {
  throw error.name === "AbortError" ? error : new LostConnection();
});

export const get = async (path, options) => whole((await send(path, options)).json());
export const raw = async (path, options) => whole((await send(path, options)).arrayBuffer());
export const remove = async (path) => void (await send(path, { method: "DELETE" }));

/** POST `body` as JSON, for the answer as JSON. */
export async function post(path, body = {}, headers = {}) {
  const options = {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers },
  };
  return whole((await send(path, options)).json());
}

/** POST a file, for the answer as JSON. */
export async function upload(path, file, type) {
  return whole((await send(path, { method: "POST", body: file, headers: { "Content-Type": type } })).json());
}

let described = null;

/** The service's own description, asked for once: what exists is read from it and never tried. */
export function openapi() {
  described ??= get("/openapi.json").catch((error) => {
    described = null;
    throw error;
  });
  return described;
}

const KINDS = {
  f8: Float64Array, f4: Float32Array, i8: BigInt64Array, i4: Int32Array, u1: Uint8Array, b1: Uint8Array,
};

/** An array from the bytes of a .npy file, as `{shape, data}` with data in C order. */
export function npy(buffer) {
  const view = new DataView(buffer);
  const [length, start] = view.getUint8(6) === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, length));
  const [, type] = header.match(/'descr': '[<|](\w+)'/) ?? [];
  const [, sizes] = header.match(/'shape': \(([^)]*)\)/);
  if (!KINDS[type] || header.includes("'fortran_order': True")) throw new Error(`cannot read ${header}`);
  const bytes = buffer.slice(start + length); // typed arrays must begin at a multiple of their size
  return { shape: sizes.split(",").filter((part) => part.trim()).map(Number), data: new KINDS[type](bytes) };
}

/**
 * Call `onEvent` with every event of a stream after number `after`, and `onState` with "open", "lost" or
 * "ended". Lost connections are taken up again where they were lost; ends when nothing follows.
 */
export async function follow(path, { after = -1, signal: stop, onEvent, onState = () => {} }) {
  const place = { path, seq: after, ended: false, onEvent, onState };
  let wait = FIRST_WAIT_MS;
  while (!place.ended && !stop?.aborted) {
    const before = place.seq;
    try {
      await readOnce(place, stop);
    } catch (error) {
      if (stop?.aborted) return;
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) throw error;
      wait = place.seq > before ? FIRST_WAIT_MS : Math.min(2 * wait, LONGEST_WAIT_MS);
    }
    if (place.ended || stop?.aborted) break;
    onState("lost");
    await pause(wait, stop);
  }
  if (place.ended) onState("ended");
}

async function readOnce(place, stop) {
  const quiet = new AbortController();
  const leave = () => quiet.abort();
  stop?.addEventListener("abort", leave);
  let clock = setTimeout(leave, SILENCE_MS);
  try {
    const headers = { Accept: "application/x-ndjson" };
    const answer = await send(`${place.path}?after=${place.seq}`, { headers, signal: quiet.signal });
    place.ended = answer.status === 204;
    if (place.ended) return;
    place.onState("open");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(clock);
      clock = setTimeout(leave, SILENCE_MS);
      const lines = (rest + value).split("\n");
      rest = lines.pop(); // a line cut off by a lost connection is asked for again
      lines.filter(Boolean).forEach((line) => take(place, JSON.parse(line)));
    }
  } finally {
    clearTimeout(clock);
    stop?.removeEventListener("abort", leave);
  }
}

function take(place, event) {
  if (event.seq <= place.seq) return;
  place.seq = event.seq;
  place.ended ||= FINAL.has(event.kind);
  place.onEvent(event);
}

function pause(ms, stop) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(clock);
      removeEventListener("online", go);
      resolve();
    };
    const clock = setTimeout(go, ms);
    addEventListener("online", go);
    stop?.addEventListener("abort", go, { once: true });
  });
}
