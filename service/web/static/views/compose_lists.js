// Lists of layers and of records: items to add, take away and reorder; containers hold lists themselves.
import { html } from "../page/html.js";
import { below, errorsAt, freshMember, itemsNode, memberOf, members } from "../page/schema.js";
import { Complaints, Fields, MemberSelect, STARTS } from "./compose_fields.js";

// Layers that are no activations, in the order of a menu; kinds that are in none of the groups are activations.
const GROUPS = [
  ["With weights", ["dense", "conv", "conv_local", "conv_transpose", "attention", "embedding"]],
  ["Containers", ["parallel", "serial", "repeat"]],
  ["Shapes and norms", ["flatten", "identity", "avg_pool", "sum_pool", "max_pool", "global_avg_pool",
    "global_sum_pool", "layer_norm", "rms_norm", "dropout", "aggregate", "mask"]],
];
const GROUPED = new Set(GROUPS.flatMap(([, names]) => names));

function groupsOf(names) {
  if (!names.includes("dense")) return [["", names]];
  const known = GROUPS.map(([title, members]) => [title, members.filter((name) => names.includes(name))]);
  const [weights, ...others] = known;
  return [weights, ["Activations", names.filter((name) => !GROUPED.has(name))], ...others];
}

export function ListControl({ form, node, pointer, value, named }) {
  const items = Array.isArray(value) ? value : [];
  const union = itemsNode(node, form.schemas);
  const noun = named.label === "record" ? "record" : "layer";
  const change = (next) => form.change(pointer, next.length ? next : undefined);
  const swap = (i, j) => change(items.with(i, items[j]).with(j, items[i]));
  const add = (name) => change([...items, freshMember(union, name, form.schemas, STARTS)]);
  return html`
    <ol class="items" id=${named.id} tabindex="-1">
      ${items.map((item, i) => html`
        <${Item} key=${i} form=${form} union=${union} pointer=${below(pointer, i)} value=${item} name=${`${noun} ${i + 1}`}
          up=${i > 0 && (() => swap(i, i - 1))} down=${i < items.length - 1 && (() => swap(i, i + 1))}
          away=${() => change(items.filter((_, j) => j !== i))} />`)}
    </ol>
    <${Adder} names=${members(union, form.schemas).map((each) => each.name)} noun=${noun} add=${add} pointer=${pointer} />`;
}

function Item({ form, union, pointer, value, name, up, down, away }) {
  const member = memberOf(union, value, form.schemas);
  const kind = below(pointer, union.discriminator.propertyName);
  const errors = [...errorsAt(form.errors, pointer), ...errorsAt(form.errors, kind)];
  const named = { id: `field${pointer}`, "aria-label": `Kind of ${name}`, "aria-invalid": errors.length ? "true" : null };
  return html`
    <li class="item" data-pointer=${pointer}>
      <div class="item-head">
        <${MemberSelect} form=${form} node=${union} pointer=${pointer} value=${value} named=${named} required=${true} />
        <span class="item-says">${firstSentence(member?.schema.description)}</span>
        <span class="item-moves">
          <button type="button" class="button small" disabled=${!up} onClick=${up || null} aria-label=${`Move ${name} up`}>↑</button>
          <button type="button" class="button small" disabled=${!down} onClick=${down || null} aria-label=${`Move ${name} down`}>↓</button>
          <button type="button" class="button small" onClick=${away} aria-label=${`Remove ${name}`}>×</button>
        </span>
      </div>
      <${Complaints} errors=${errors} />
      ${member && html`<${Fields} form=${form} node=${member.schema} pointer=${pointer} value=${value} />`}
    </li>`;
}

const firstSentence = (text = "") => text.split(/[:;.](?:\s|$)/)[0].replaceAll("`", "");

function Adder({ names, noun, add, pointer }) {
  const choose = (event) => {
    add(event.target.value);
    event.target.value = "";
  };
  return html`
    <select class="adder" aria-label=${`Add a ${noun} to ${pointer}`} onChange=${choose}>
      <option value="">+ Add a ${noun}</option>
      ${groupsOf(names).map(([title, members]) => (title
        ? html`<optgroup label=${title}>${members.map(Option)}</optgroup>` : members.map(Option)))}
    </select>`;
}

const Option = (name) => html`<option value=${name}>${name.replaceAll("_", " ")}</option>`;
