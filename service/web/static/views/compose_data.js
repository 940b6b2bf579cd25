// Arrays: numbers that are typed or pasted, a file, or a data set by its name.
import { html } from "../page/html.js";
import { Datasets } from "./compose_datasets.js";
import { Fields, Prose, useText } from "./compose_fields.js";

const SHOWN_NUMBERS = 2000; // more than that in a text area helps nobody

/** Rows of numbers from text: JSON, or a line a row with commas, semicolons, tabs or blanks between. */
export function rowsOf(text) {
  if (text.trim() === "") return undefined;
  if (text.trim().startsWith("[")) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  const lines = text.trim().split(/\n/).map((line) => line.trim().split(/[\s,;]+/).filter(Boolean));
  const rows = lines.filter((cells) => cells.length);
  const isHeader = rows.length > 1 && rows[0].every((cell) => Number.isNaN(Number(cell)));
  return rows.slice(isHeader ? 1 : 0).map((cells) => cells.map((cell) => (Number.isNaN(Number(cell)) ? cell : Number(cell))));
}

export function textOf(value) {
  if (value === undefined || value === null) return "";
  if (!Array.isArray(value)) return typeof value === "string" ? value : "";
  const isTable = value.every((row) => Array.isArray(row) && row.every((cell) => !Array.isArray(cell)));
  return isTable ? value.map((row) => row.join(", ")).join("\n") : JSON.stringify(value);
}

const isObjectOf = (value, kind) => value !== null && typeof value === "object" && value.kind === kind;

// The ways to give an array: whether a value is given so, what it begins with, what edits it.
const WAYS = {
  numbers: { holds: (value) => Array.isArray(value) || typeof value === "string", begin: () => [[0], [1]], Edit: Numbers },
  dataset: {
    holds: (value) => isObjectOf(value, "dataset"), begin: () => ({ kind: "dataset", name: "digits", limit: 100 }), Edit: Named,
  },
  file: { holds: (value) => isObjectOf(value, "npy"), begin: () => ({ kind: "npy", base64: "" }), Edit: Upload },
};
const TITLES = { numbers: "Numbers", dataset: "A data set by its name", file: "A file (.npy, .csv)" };

export function DataControl({ form, node, pointer, value, named, required }) {
  const way = Object.keys(WAYS).find((each) => WAYS[each].holds(value)) ?? "";
  const { Edit } = WAYS[way] ?? {};
  const choose = (event) => form.change(pointer, WAYS[event.target.value]?.begin());
  const label = `How ${pointer.split("/").at(-1)} is given`;
  return html`
    <div class="data">
      <select aria-label=${label} id=${Edit === Numbers ? null : named.id} value=${way} onChange=${choose}>
        ${(!required || !way) && html`<option value="">${required ? "Choose" : "None"}</option>`}
        ${Object.keys(WAYS).map((each) => html`<option value=${each}>${TITLES[each]}</option>`)}
      </select>
      ${Edit && html`<${Edit} ...${{ form, node, pointer, value, named }} />`}
    </div>`;
}

function Numbers({ form, pointer, value, named }) {
  const [text, type] = useText(value, textOf, rowsOf);
  const rows = Array.isArray(value) ? value.length : 0;
  const columns = rows && Array.isArray(value[0]) ? value[0].length : 0;
  if (rows * columns > SHOWN_NUMBERS) return html`<p class="quiet">${rows} rows of ${columns} numbers.</p>`;
  const change = (next) => form.change(pointer, type(next));
  return html`
    <textarea ...${named} rows=${Math.min(8, Math.max(2, rows))} spellcheck="false"
      placeholder="A row a line: 1.0, 0.5" onInput=${(event) => change(event.target.value)}>${text}</textarea>
    <p class="quiet size">${rows} × ${columns}</p>`;
}

const DATASET = (node) => node.anyOf.find((each) => each.properties?.kind?.const === "dataset");

function Named({ form, node, pointer, value }) {
  const schema = DATASET(node);
  return html`<div class="dataset"><${Fields} form=${form} node=${schema} pointer=${pointer} value=${value} />
    <${Datasets} chosen=${value.name} choose=${(name) => form.change(pointer, { ...value, name })} /></div>
    <p class="help always"><${Prose} text=${schema.description.split("\n\n")[1] ?? ""} /></p>`;
}

async function encoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function Upload({ form, pointer, value }) {
  const take = async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    const isArray = file.name.endsWith(".npy");
    form.change(pointer, isArray ? { kind: "npy", base64: await encoded(file) } : rowsOf(await file.text()));
  };
  return html`
    <input type="file" accept=".npy,.csv,.txt,.json" aria-label=${`File for ${pointer}`} onChange=${take} />
    ${value.base64 && html`<p class="quiet size">${Math.ceil(value.base64.length * 0.75 / 1024)} KB read</p>`}`;
}
