// The axes of a sweep: fields of the run by their pointers, each with its values.
import { html } from "../page/html.js";
import { below, errorsAt, errorsWithin } from "../page/schema.js";
import { Complaints, useText } from "./compose_fields.js";

const OFTEN = ["/model/parameterization", "/model/output_scale", "/training/learning_rate", "/seed"];

/** Places of a run that may be varied: its numbers, words and objects, but for the numbers of data. */
function places(value, pointer = "") {
  if (pointer && (value === null || typeof value !== "object")) return [pointer];
  if (Array.isArray(value) && !value.some((each) => each?.kind)) return [];
  const inner = Object.entries(value).flatMap(([key, part]) => places(part, below(pointer, key)));
  return value.kind && pointer ? [pointer, ...inner] : inner;
}

const written = (values) => (Array.isArray(values) ? values.map((each) => JSON.stringify(each)).join(", ") : "");

/** A list in JSON without its brackets; where it is none, the words between commas. */
function read(text) {
  try {
    return JSON.parse(`[${text}]`);
  } catch {
    return text.split(",").map((part) => part.trim()).filter(Boolean);
  }
}

export function Axes({ spec, errors, change }) {
  const axes = spec.axes ?? [];
  const known = [...new Set([...places(spec.run ?? {}), ...OFTEN])];
  return html`
    <section class="card spec-section spec sweep-axes" aria-label="What is varied">
      <h2>What is varied</h2>
      <p class="quiet says">Fields of the run, and the values that each takes.</p>
      <ol class="items" id="field/axes" tabindex="-1">
        ${axes.map((axis, i) => html`
          <${Axis} key=${i} axis=${axis} number=${i} errors=${errors} change=${change}
            away=${axes.length > 1 && (() => change("/axes", axes.filter((_, j) => j !== i)))} />`)}
      </ol>
      <${Complaints} errors=${errorsAt(errors, "/axes")} />
      <datalist id="places">${known.map((place) => html`<option value=${place} />`)}</datalist>
      <p class="actions">
        <button type="button" class="button adder" onClick=${() => change("/axes", [...axes, { field: "", values: [] }])}>Add an axis</button>
        <label class="combine">Combine values as a <select id="field/combine" value=${spec.combine ?? "grid"}
          onChange=${(event) => change("/combine", event.target.value)}>
          <option value="grid">grid: each with each</option><option value="zip">zip: first with first</option>
        </select></label>
      </p>
    </section>`;
}

function Axis({ axis, number, errors, change, away }) {
  const pointer = `/axes/${number}`;
  const [text, type] = useText(axis.values, written, read);
  const named = (name) => ({
    id: `field${pointer}/${name}`, "aria-describedby": `wrong${pointer}/${name}`,
    "aria-invalid": errorsWithin(errors, `${pointer}/${name}`).length ? "true" : null,
    type: "text", autocomplete: "off", spellcheck: "false",
  });
  return html`
    <li class="item">
      <div class="axis">
        <div class="field">
          <label for=${`field${pointer}/field`}>Field</label>
          <input ...${named("field")} list="places" value=${axis.field}
            onInput=${(event) => change(`${pointer}/field`, event.target.value)} />
        </div>
        <div class="field">
          <label for=${`field${pointer}/values`}>Values</label>
          <input ...${named("values")} value=${text} onInput=${(event) => change(`${pointer}/values`, type(event.target.value))} />
        </div>
        <button type="button" class="button small" disabled=${!away} onClick=${away || null}
          aria-label=${`Remove axis ${number + 1}`}>×</button>
      </div>
      ${axis.also?.length > 0 && html`<p class="quiet">The same value goes to ${axis.also.join(", ")}.</p>`}
      ${["field", "values"].map((name) => html`
        <${Complaints} id=${`wrong${pointer}/${name}`} errors=${errorsWithin(errors, `${pointer}/${name}`)} />`)}
    </li>`;
}
