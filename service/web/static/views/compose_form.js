// A whole spec as a form: its state, its sections, and the errors that the service found in it.
import { html, useEffect, useMemo, useRef, useState } from "../page/html.js";
import { openapi, post } from "../page/api.js";
import { fieldsOf, put, resolved, tidy } from "../page/schema.js";
import { Field, Fields } from "./compose_fields.js";

const SETTLED_MS = 400;

/** The service's schemas; null until they are there. */
export function useSchemas(onError) {
  const [schemas, keep] = useState(null);
  useEffect(() => void openapi().then((document) => keep(document.components.schemas), onError), []);
  return schemas;
}

/** What `read` makes of a spec in the address, or `otherwise` where there is none that can be read. */
export function specIn(query, otherwise) {
  try {
    return query.spec ? JSON.parse(query.spec) : otherwise;
  } catch {
    return otherwise;
  }
}

/** Where a spec is open in a view. */
export const addressOf = (view, spec) => `#/${view}?spec=${encodeURIComponent(JSON.stringify(spec))}`;

/**
 * A spec that is edited: `{spec, settled, errors, change, set, refuse}`. `refuse` puts errors at
 * their fields until these are changed. The address follows the spec, so that it can be shared.
 */
export function useSpec({ view, name, query, start, schemas }) {
  const [spec, keep] = useState(() => specIn(query, start));
  const [errors, refuse] = useState([]);
  const settled = useSettled(spec);
  const latest = useRef(spec);
  latest.current = spec;
  useEffect(() => {
    if (settled !== start) history.replaceState(history.state, "", addressOf(view, tidied(settled, name, schemas)));
  }, [settled]);
  useEffect(() => {
    const other = specIn(query, null);
    if (other && JSON.stringify(other) !== JSON.stringify(tidied(latest.current, name, schemas))) keep(other);
  }, [query.spec]);
  const change = (pointer, part) => {
    latest.current = put(latest.current, pointer, part);
    keep(latest.current);
    refuse((known) => known.filter((error) => !touches(error.pointer, pointer)));
  };
  const set = (next) => {
    keep(next);
    refuse([]);
  };
  return { spec, settled, errors, refuse, set, change };
}

/**
 * Sending an edited spec: `{errors, live, send, isSending, failed}`. `errors` are those of the last answer and
 * those that `live` was told of, once each; `send(path, body)` gives the answer, or undefined where it was
 * refused: then the errors are at their fields, or the refusal is `failed`.
 */
export function useSending(edited) {
  const [found, live] = useState([]);
  const [failed, fail] = useState(null);
  const [isSending, busy] = useState(false);
  const errors = [...edited.errors, ...found.filter((each) => !edited.errors.some((other) => other.pointer === each.pointer))];
  const send = async (path, body) => {
    busy(true);
    fail(null);
    try {
      return await post(path, body);
    } catch (refused) {
      const wrong = refused.problem?.errors ?? [];
      edited.refuse(wrong);
      if (wrong.length) requestAnimationFrame(() => showField(wrong[0].pointer));
      else fail(refused);
      return undefined;
    } finally {
      busy(false);
    }
  };
  return { errors, live, send, isSending, failed };
}

const touches = (one, other) => one === other || one.startsWith(`${other}/`) || (one && other.startsWith(`${one}/`));

/** A spec without what is as by default. */
export const tidied = (spec, name, schemas) => (schemas ? tidy(spec, schemas[name], schemas) : spec);

/** A value once it has not changed for a moment. */
export function useSettled(value) {
  const [settled, settle] = useState(value);
  useEffect(() => {
    const clock = setTimeout(() => settle(value), SETTLED_MS);
    return () => clearTimeout(clock);
  }, [value]);
  return settled;
}

/** Sections are `{title, says, names, folded?}`: fields of the spec at its top, in order. */
export function SpecForm({ schemas, name, spec, errors, change, sections }) {
  const [explains, explain] = useState(false);
  const form = { schemas, errors, change };
  const node = useMemo(() => resolved(schemas[name], schemas), [schemas, name]);
  const fields = Object.fromEntries(fieldsOf(node, schemas).map((field) => [field.name, field]));
  const known = sections.map((section) => ({ ...section, names: section.names.filter((each) => fields[each]) }));
  return html`
    <form class=${`spec ${explains ? "explained" : ""}`} onSubmit=${(event) => event.preventDefault()} novalidate>
      <label class="explain"><input type="checkbox" checked=${explains}
        onChange=${(event) => explain(event.target.checked)} /> Explain every field</label>
      ${known.filter((section) => section.names.length).map((section) => html`
        <${Section} key=${section.title} ...${section} form=${form} fields=${fields} spec=${spec} />`)}
    </form>`;
}

function Section({ title, says, names, form, fields, spec }) {
  return html`
    <section class="card spec-section" aria-label=${title}>
      <h2>${title}</h2>
      ${says && html`<p class="quiet says">${says}</p>`}
      <div class="fields">
        ${names.map((name) => html`
          <${Part} key=${name} form=${form} field=${fields[name]} value=${spec?.[name]} alone=${names.length === 1} />`)}
      </div>
    </section>`;
}

/** A field at the top: an object's fields stand in the section itself. */
function Part({ form, field, value, alone }) {
  const { name, schema, required } = field;
  const pointer = `/${name}`;
  if (schema.properties && alone) {
    return html`<div class="wide"><${Fields} form=${form} node=${schema} pointer=${pointer} value=${value} /></div>`;
  }
  return html`<${Field} form=${form} node=${schema} pointer=${pointer} value=${value} name=${name}
    required=${required} alone=${alone} />`;
}

/** What is wrong, as a list that leads to the fields. */
export function Wrong({ errors }) {
  if (!errors.length) return null;
  return html`
    <div class="problem" role="alert">
      <strong>${errors.length === 1 ? "One thing is wrong" : `${errors.length} things are wrong`}</strong>
      <ul>${errors.map((error) => html`
        <li><a href=${location.hash} onClick=${(event) => goTo(event, error.pointer)}><code>${error.pointer || "the whole"}</code></a>
          ${" "}${error.detail}</li>`)}</ul>
    </div>`;
}

function goTo(event, pointer) {
  event.preventDefault();
  showField(pointer);
}

/** Bring the field at a pointer, or the nearest around it, into view, and the keyboard to it. */
export function showField(pointer) {
  for (let place = pointer; ; place = place.slice(0, place.lastIndexOf("/"))) {
    const field = document.getElementById(`field${place}`);
    if (field) return field.focus(), field.scrollIntoView({ block: "center" });
    if (!place) return null;
  }
}
