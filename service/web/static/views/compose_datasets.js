// The data sets that a spec can name: those that are there, and one more from a file.
import { html, useEffect, useState } from "../page/html.js";
import { get, upload } from "../page/api.js";
import { Problem } from "../components/problem.js";

const MEDIA = {
  csv: "text/csv", npz: "application/x-npz",
  arrow: "application/vnd.apache.arrow.file", arrows: "application/vnd.apache.arrow.stream",
};
const extensionOf = (file) => file.name.toLowerCase().split(".").at(-1);

/** `choose(name)` names a data set in the spec. */
export function Datasets({ chosen, choose }) {
  const [there, tell] = useState([]);
  const list = () => get("/datasets").then(({ built_in: known, datasets }) => tell([
    ...known.map((name) => ({ name })), ...datasets,
  ]), () => tell([])); // the name can be typed all the same
  useEffect(() => void list(), []);
  const added = ({ name }) => {
    list();
    choose(name);
  };
  return html`
    ${there.length > 0 && html`<p class="known">${there.map(({ name, splits }) => html`
      <button type="button" class="button small" aria-pressed=${name === chosen} onClick=${() => choose(name)}
        title=${splits && sizes(splits)}>${name}</button>`)}</p>`}
    <details class="more"><summary>Add a data set</summary><${Adding} onAdded=${added} /></details>`;
}

const sizes = (splits) => Object.entries(splits).map(([split, parts]) =>
  `${split}: ${Object.entries(parts).map(([part, shape]) => `${part} ${shape.join(" × ")}`).join(", ")}`).join("; ");

/** No form of its own: it stands in that of the spec. */
function Adding({ onAdded }) {
  const [told, tell] = useState({ name: "", y: "", one_hot: false, test_rows: "" });
  const [file, take] = useState(null);
  const [state, go] = useState({});
  const change = (more) => tell({ ...told, ...more });
  const chooseFile = ({ target: { files: [first] } }) => {
    take(first ?? null);
    if (first && !told.name) change({ name: first.name.replace(/\.[^.]*$/, "").replace(/[^A-Za-z0-9_-]+/g, "-") });
  };
  const add = async () => {
    const media = MEDIA[extensionOf(file)];
    const asked = new URLSearchParams(Object.entries(told).filter(([, value]) => value));
    go({ busy: true });
    try {
      if (!media) throw new Error(`A data set is a file that ends in one of .${Object.keys(MEDIA).join(", .")}.`);
      onAdded(await upload(`/datasets?${asked}`, file, media));
      go({ done: told.name });
    } catch (error) {
      go({ error });
    }
  };
  const typed = (name, title, more = {}) => html`
    <label class="field"><span class="label">${title}</span>
      <input type="text" value=${told[name]} onInput=${(event) => change({ [name]: event.target.value })} ...${more} /></label>`;
  return html`
    <div class="fields">
      <label class="field wide"><span class="label">File: a table (.csv, .arrow) or arrays x, y (.npz)</span>
        <input type="file" accept=".csv,.npz,.arrow,.arrows" onChange=${chooseFile} /></label>
      ${typed("name", "Its name")}
      ${typed("y", "Columns that are targets", { placeholder: "label" })}
      ${typed("test_rows", "Last rows to test on", { inputmode: "numeric" })}
      <label class="field"><span class="label">The target is a label</span>
        <input type="checkbox" checked=${told.one_hot} onChange=${(event) => change({ one_hot: event.target.checked })} /></label>
      <p class="wide"><button type="button" class="button" disabled=${!file || !told.name || state.busy} onClick=${add}>${
        state.busy ? "Adding …" : "Add"}</button>
        <span role="status">${state.done && html` Added ${state.done}.`}</span></p>
      ${state.error && html`<div class="wide"><${Problem} error=${state.error} /></div>`}
    </div>`;
}
