// One time for all charts: chosen by a slider, a click on a chart, or the address.
import { html, signal, useEffect, useRef } from "../page/html.js";
import { indexAt, show } from "../page/numbers.js";

const FRAME_MS = 40;
const FRAMES = 150; // a run is played in about six seconds

/** The time that was chosen, or null for the newest; whether axes of time are logarithmic. */
export function clock(query, spec) {
  const chosen = signal(query.t === undefined ? null : Number(query.t));
  const log = signal((query.axis ?? usual(spec)) === "log");
  const keep = () => {
    const [path] = location.hash.split("?");
    const parts = new URLSearchParams({ axis: log.value ? "log" : "linear" });
    if (chosen.value !== null) parts.set("t", chosen.value);
    history.replaceState(null, "", `${path}?${parts}`);
  };
  let timer = null;
  const later = () => { // browsers refuse to keep every step of a slider
    clearTimeout(timer);
    timer = setTimeout(keep, 300);
  };
  return {
    chosen, log, last: signal(null),
    choose(time) { chosen.value = time; later(); },
    turn(logarithmic) { log.value = logarithmic; later(); },
  };
}

/** Training is fast at first and slow at last, so that its time is logarithmic unless steps are counted evenly. */
const usual = ({ record }) => (record.every(({ schedule }) => schedule?.kind === "every") ? "linear" : "log");

/** The slider goes by recorded points, so that it reaches each of them. */
export function Scrubber({ times, time, at, perStep }) {
  const index = at.value === null ? times.length - 1 : indexAt(times, at.value);
  const playing = useRef(null);
  const stop = () => { clearInterval(playing.current); playing.current = null; };
  useEffect(() => stop, []);
  const latest = useRef();
  latest.current = times;
  const play = () => {
    if (playing.current) return stop();
    let next = index >= times.length - 1 ? 0 : index;
    playing.current = setInterval(() => {
      const all = latest.current;
      next += Math.max(1, Math.round(all.length / FRAMES));
      if (next >= all.length - 1) stop();
      time.choose(next >= all.length - 1 ? null : all[next]);
    }, FRAME_MS);
    return time.choose(times[next]);
  };
  const slide = (event) => {
    stop();
    const to = Number(event.target.value);
    time.choose(to >= times.length - 1 ? null : times[to]);
  };
  return html`
    <div class="scrubber">
      <button class="button" onClick=${play} aria-label="Play or pause">${playing.current ? "Pause" : "Play"}</button>
      <input type="range" min="0" max=${times.length - 1} step="1" value=${index} onInput=${slide}
        aria-label="Time" aria-valuetext=${`time ${show(times[index])}`} />
      <output class="number">t = ${show(times[index])}</output>
      ${perStep && html`<span class="number quiet">step ${Math.round(times[index] / perStep)}</span>`}
      <button class="button small" aria-pressed=${time.chosen.value === null} onClick=${() => { stop(); time.choose(null); }}>Newest</button>
      <label class="switch"><input type="checkbox" checked=${time.log.value}
        onChange=${(event) => time.turn(event.target.checked)} /> log time</label>
    </div>`;
}
