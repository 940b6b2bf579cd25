// Controls for values of JSON schemas, with the service's errors at the field that they are about.
import { html, useState } from "../page/html.js";
import {
  below, controlOf, errorsAt, errorsWithin, fieldsOf, freshMember, limitsOf, memberOf, members,
} from "../page/schema.js";
import { DataControl } from "./compose_data.js";
import { ListControl } from "./compose_lists.js";

// Shown at once; what else has a default is folded away.
const MAIN = new Set([
  "width", "W_std", "b_std", "learning_rate", "loss", "x_test", "y_test", "get", "seed",
  "split", "limit", "Model.parameterization", "Model.layers",
]);
const isMain = (node, field) => field.required || MAIN.has(field.name) || MAIN.has(`${node.title}.${field.name}`);

/** First values of what has no default, by kind. */
export const STARTS = {
  dense: { width: 100 }, conv: { width: 32, filter_shape: [3, 3], padding: "SAME" },
  conv_local: { width: 32, filter_shape: [3, 3] }, conv_transpose: { width: 32, filter_shape: [3, 3] },
  avg_pool: { window_shape: [2, 2] }, sum_pool: { window_shape: [2, 2] }, max_pool: { window_shape: [2, 2] },
  attention: { width: 32, n_heads: 4 }, dropout: { keep_rate: 0.9 }, leaky_relu: { alpha: 0.1 },
  ab_relu: { a: 0.1, b: 1 }, monomial: { degree: 3 }, rectified_monomial: { degree: 2 }, hermite: { degree: 2 },
  polynomial: { coef: [0, 1, 0.5] }, gaussian: { a: 1, b: -1 }, repeat: { layer: { kind: "relu" }, times: 2 },
  serial: { layers: [{ kind: "relu" }, { kind: "dense", width: 100 }] },
  parallel: { branches: [{ kind: "identity" }, { kind: "relu" }] }, mask: { constant: -1 },
  gradient_descent: { learning_rate: 0.01, steps: 1000 }, adam: { steps: 1000 }, gradient_flow: { t_end: 10 },
  mean_field: { t_end: 10 }, every: { steps: 10 }, at: { at: [0] }, student_t: { df: 5 },
};

const isSymbol = (name) => /^[A-Za-z](_|\d|$)/.test(name); // W_std, x1: as in formulas
const spoken = (name) => (isSymbol(name) ? name : name.replaceAll("_", " "));
const titled = (name) => (isSymbol(name) ? html`<code>${name}</code>` : name[0].toUpperCase() + spoken(name).slice(1));

/** Prose with its `code`. */
export const Prose = ({ text }) => text.split("`").map((part, i) => (i % 2 ? html`<code>${part}</code>` : part));

export function Complaints({ errors, id }) {
  return html`
    <div id=${id} class="complaints" role=${errors.length ? "alert" : null}>
      ${errors.map(({ detail, hint }) => html`<p key=${detail}><strong>${detail}</strong> ${hint}</p>`)}
    </div>`;
}

/** Text for a value, kept as it was typed for as long as it means that value. */
export function useText(value, show, read) {
  const [draft, keep] = useState({ text: show(value), value });
  const text = Object.is(draft.value, value) ? draft.text : show(value);
  const type = (next) => {
    const meant = read(next);
    keep({ text: next, value: meant });
    return meant;
  };
  return [text, type];
}

const asNumber = (text) => (text.trim() === "" ? undefined : Number.isFinite(Number(text)) ? Number(text) : text);

/** A list as typed: numbers, and the text itself where it is none. */
const asNumbers = (text) => {
  const parts = text.split(/[\s,;]+/).filter(Boolean);
  return parts.length ? parts.map(asNumber) : undefined;
};

const asJSON = (text) => {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

const shown = (value) => (value === undefined || value === null ? "" : String(value));
const listed = (value) => (Array.isArray(value) ? value.join(", ") : shown(value));
const written = (value) => (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value));

const Typed = (show, read, mode) => ({ form, node, pointer, value, named }) => {
  const [text, type] = useText(value, show, read);
  return html`<input ...${named} type="text" inputmode=${mode} value=${text} autocomplete="off" spellcheck="false"
    placeholder=${node.default === undefined ? node.nullable ? "none" : "" : show(node.default)}
    onInput=${(event) => form.change(pointer, type(event.target.value))} />`;
};

function TextArea({ form, pointer, value, named }) {
  const [text, type] = useText(value, written, asJSON);
  return html`<textarea ...${named} rows="2" spellcheck="false" placeholder="JSON"
    onInput=${(event) => form.change(pointer, type(event.target.value))}>${text}</textarea>`;
}

function Choice({ form, node, pointer, value, named, required }) {
  const isOpen = node.default === undefined && !required;
  return html`
    <select ...${named} value=${value ?? node.default ?? ""}
      onChange=${(event) => form.change(pointer, event.target.value || undefined)}>
      ${isOpen && html`<option value="">none</option>`}
      ${node.enum.map((each) => html`<option value=${each}>${each}</option>`)}
    </select>`;
}

function Choices({ form, node, pointer, value, named }) {
  const chosen = value ?? node.default ?? [];
  const toggle = (each) => form.change(pointer, node.items.enum.filter((name) => (name === each) !== chosen.includes(name)));
  return html`
    <div class="choices" role="group" id=${named.id} aria-label=${named.label}>
      ${node.items.enum.map((each) => html`
        <label><input type="checkbox" checked=${chosen.includes(each)} onChange=${() => toggle(each)} /> ${each}</label>`)}
    </div>`;
}

const Flag = ({ form, node, pointer, value, named }) => html`
  <input ...${named} type="checkbox" checked=${value ?? node.default ?? false}
    onChange=${(event) => form.change(pointer, event.target.checked)} />`;

/** The choice of a union's member, and its fields. */
function Union({ form, node, pointer, value, named, required }) {
  const member = memberOf(node, value, form.schemas);
  return html`
    <${MemberSelect} ...${{ form, node, pointer, value, named, required }} />
    ${member && html`<${Fields} form=${form} node=${member.schema} pointer=${pointer} value=${value} />`}`;
}

export function MemberSelect({ form, node, pointer, value, named, required }) {
  const name = value?.[node.discriminator.propertyName] ?? "";
  const choose = (event) => {
    const chosen = event.target.value;
    form.change(pointer, chosen ? freshMember(node, chosen, form.schemas, STARTS) : undefined);
  };
  return html`
    <select ...${named} value=${name} onChange=${choose}>
      ${!required && html`<option value="">${node.nullable ? "none" : "by default"}</option>`}
      ${members(node, form.schemas).map((each) => html`<option value=${each.name}>${each.name.replaceAll("_", " ")}</option>`)}
    </select>`;
}

const Nested = ({ form, node, pointer, value }) => html`
  <${Fields} form=${form} node=${node} pointer=${pointer} value=${value} />`;

const CONTROLS = {
  number: Typed(shown, asNumber, "decimal"), numbers: Typed(listed, asNumbers, "text"),
  text: Typed(shown, (text) => text || undefined, "text"), json: TextArea, choice: Choice, choices: Choices, flag: Flag,
  union: Union, object: Nested, list: ListControl, data: DataControl,
};
const WIDE = new Set(["union", "object", "list", "data", "json"]);
const OWN_ERRORS = new Set(["union", "object", "list"]); // what is in them has fields of its own

/** One field of a spec: label, control, what it means, what is wrong with it. */
export function Field({ form, node, pointer, value, name, required, alone }) {
  const control = controlOf(node, form.schemas);
  const Control = CONTROLS[control];
  const errors = OWN_ERRORS.has(control) ? errorsAt(form.errors, pointer) : errorsWithin(form.errors, pointer);
  const label = titled(name);
  const unseen = alone ? "unseen" : null; // its section has its name
  const named = {
    id: `field${pointer}`, "aria-describedby": `help${pointer} wrong${pointer}`,
    "aria-invalid": errors.length ? "true" : null,
  };
  const isGroup = control === "choices" || control === "list" || control === "object";
  const limits = limitsOf(node);
  return html`
    <div class=${`field of-${control} ${WIDE.has(control) ? "wide" : ""}`} data-pointer=${pointer}>
      ${isGroup ? html`<span class=${`label ${unseen ?? ""}`}>${label}</span>`
        : html`<label for=${named.id} class=${unseen}>${label}</label>`}
      <${Control} ...${{ form, node, pointer, value, required }} named=${isGroup ? { ...named, label: spoken(name) } : named} />
      <p id=${`help${pointer}`} class="help"><${Prose} text=${node.description ?? ""} />${limits && ` (${limits})`}</p>
      <${Complaints} id=${`wrong${pointer}`} errors=${errors} />
    </div>`;
}

/** The fields of an object: the main ones, and the rest folded away. */
export function Fields({ form, node, pointer, value, without = [] }) {
  const fields = fieldsOf(node, form.schemas).filter((field) => !without.includes(field.name));
  const main = fields.filter((field) => isMain(node, field));
  const rest = fields.filter((field) => !main.includes(field));
  const draw = ({ name, schema, required }) => html`
    <${Field} key=${name} form=${form} node=${schema} pointer=${below(pointer, name)} value=${value?.[name]}
      name=${name} required=${required} />`;
  const wrong = rest.some(({ name }) => errorsWithin(form.errors, below(pointer, name)).length);
  const set = rest.filter(({ name }) => value?.[name] !== undefined && value[name] !== null);
  return html`
    ${main.length > 0 && html`<div class="fields">${main.map(draw)}</div>`}
    ${rest.length > 0 && html`<${Folded} title="More settings" note=${set.map(({ name }) => spoken(name)).join(", ")} open=${wrong}>
      <div class="fields">${rest.map(draw)}</div><//>`}`;
}

/** Content that is drawn only while it is open. */
export function Folded({ title, note, open, children }) {
  const [isOpen, toggle] = useState(false);
  return html`
    <details class="more" open=${open || isOpen} onToggle=${(event) => toggle(event.target.open)}>
      <summary>${title}${note && html` <span class="quiet">set: ${note}</span>`}</summary>
      ${(open || isOpen) && children}
    </details>`;
}
