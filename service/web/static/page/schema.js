// JSON schemas as descriptions of form controls, and values as specs. Nothing here knows of a page.

const LEAST = 1e-30; // limits that only keep numbers finite are not worth telling
const MOST = 1e12;

/** The schema that a node means: references followed, `null` taken out of a union and said as `nullable`. */
export function resolved(node, schemas) {
  if (node.$ref) {
    const { $ref, ...own } = node;
    return resolved({ ...schemas[$ref.split("/").at(-1)], ...own }, schemas);
  }
  const others = node.anyOf?.filter((each) => each.type !== "null");
  if (!others || others.length === node.anyOf.length) return node;
  const { anyOf, ...own } = node;
  const rest = others.length === 1 ? resolved(others[0], schemas) : { anyOf: others };
  return { ...rest, ...own, nullable: true };
}

const isData = (node) => node.anyOf?.some((each) => each.properties?.kind?.const === "npy")
  && node.anyOf.some((each) => each.title === "Numbers");
const isUnion = (node) => node.discriminator !== undefined;
const isListOf = (test) => (node, schemas) => node.type === "array" && test(itemsNode(node, schemas));

/** The schema of a list's items. */
export const itemsNode = (node, schemas) => resolved(node.items ?? {}, schemas);

// The first that recognises a schema names its control.
const CONTROLS = [
  ["data", isData],
  ["union", isUnion],
  ["list", isListOf(isUnion)],
  ["choices", isListOf((item) => item.enum !== undefined)],
  ["numbers", isListOf((item) => ["number", "integer"].includes(item.type))],
  ["choice", (node) => node.enum !== undefined],
  ["flag", (node) => node.type === "boolean"],
  ["number", (node) => ["number", "integer"].includes(node.type)],
  ["text", (node) => node.type === "string"],
  ["object", (node) => node.properties !== undefined],
  ["json", () => true],
];

/** The name of the control that edits values of a resolved schema. */
export const controlOf = (node, schemas) => CONTROLS.find(([, recognises]) => recognises(node, schemas))[0];

/** Members of a union by the value that tells them apart: `[{name, schema}]`. */
export function members(node, schemas) {
  const { mapping } = node.discriminator;
  return Object.entries(mapping).map(([name, $ref]) => ({ name, schema: resolved({ $ref }, schemas) }));
}

/** The member that a value of a union is of, or undefined. */
export function memberOf(node, value, schemas) {
  const name = value?.[node.discriminator.propertyName];
  return members(node, schemas).find((member) => member.name === name);
}

/** Fields of an object: `[{name, schema, required}]`; constants, which only name what it is, are left out. */
export function fieldsOf(node, schemas) {
  const required = new Set(node.required);
  return Object.entries(node.properties)
    .map(([name, schema]) => ({ name, schema: resolved(schema, schemas), required: required.has(name) }))
    .filter(({ schema }) => schema.const === undefined);
}

/** The limits of a number in words, or "". */
export function limitsOf(node) {
  const low = node.minimum ?? node.exclusiveMinimum;
  const high = node.maximum ?? node.exclusiveMaximum;
  const least = low !== undefined && (low === 0 || Math.abs(low) > LEAST) && Math.abs(low) < MOST;
  const most = high !== undefined && Math.abs(high) < MOST;
  const parts = [
    least && `${node.minimum === undefined ? "above" : "at least"} ${low}`,
    most && `${node.maximum === undefined ? "below" : "at most"} ${high}`,
  ];
  return parts.filter(Boolean).join(", ");
}

/** A value of a schema with no more in it than it needs; `starts` has first values by kind. */
export function fresh(node, schemas, starts = {}) {
  const found = resolved(node, schemas);
  if (found.const !== undefined) return found.const;
  if (found.default !== undefined) return found.default;
  return FRESH[controlOf(found, schemas)]?.(found, schemas, starts);
}

const FRESH = {
  union: (node, schemas, starts) => freshMember(node, members(node, schemas)[0].name, schemas, starts),
  list: (node, schemas, starts) => [fresh(node.items, schemas, starts)],
  numbers: (node) => Array(node.minItems ?? 1).fill(1),
  choice: (node) => node.enum[0],
  object: (node, schemas, starts) => freshObject(node, schemas, starts),
};

function freshObject(node, schemas, starts) {
  const needed = fieldsOf(node, schemas).filter((field) => field.required);
  return Object.fromEntries(needed.map(({ name, schema }) => [name, fresh(schema, schemas, starts)]));
}

/** A new value of the member `name` of a union. */
export function freshMember(node, name, schemas, starts = {}) {
  const { schema } = members(node, schemas).find((member) => member.name === name);
  return { [node.discriminator.propertyName]: name, ...freshObject(schema, schemas, starts), ...starts[name] };
}

/** A value without what is as by default. */
export function tidy(value, node, schemas) {
  const found = resolved(node, schemas);
  return TIDY[controlOf(found, schemas)]?.(value, found, schemas) ?? value;
}

const TIDY = {
  union: (value, node, schemas) => {
    const member = memberOf(node, value, schemas);
    return member && tidyObject(value, member.schema, schemas);
  },
  list: (value, node, schemas) => Array.isArray(value) ? value.map((item) => tidy(item, node.items, schemas)) : value,
  object: (value, node, schemas) => tidyObject(value, node, schemas),
};

function tidyObject(value, node, schemas) {
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).flatMap(([name, part]) => {
    const schema = node.properties[name];
    if (!schema) return [[name, part]];
    const isDefault = schema.const === undefined && schema.default !== undefined && same(part, schema.default);
    if (part === undefined || part === null || isDefault) return [];
    return [[name, tidy(part, schema, schemas)]];
  });
  return Object.fromEntries(entries);
}

/** Whether two values are the same JSON. */
export const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

const unescaped = (key) => key.replaceAll("~1", "/").replaceAll("~0", "~");
const escaped = (key) => String(key).replaceAll("~", "~0").replaceAll("/", "~1");

/** The JSON pointer (RFC 6901) one key further on. */
export const below = (pointer, key) => `${pointer}/${escaped(key)}`;

/** A copy of a value with `part` at a pointer; undefined takes away what is there. */
export function put(value, pointer, part) {
  if (pointer === "") return part;
  const [, first, ...rest] = pointer.split("/");
  const key = unescaped(first);
  const copy = Array.isArray(value) ? [...value] : { ...value };
  copy[key] = put(copy[key], rest.map((each) => `/${each}`).join(""), part);
  if (copy[key] === undefined && !Array.isArray(copy)) delete copy[key];
  return copy;
}

const isWithin = (pointer, place) => pointer === place || pointer.startsWith(`${place}/`);

/** Errors of exactly this field. */
export const errorsAt = (errors, pointer) => errors.filter((error) => error.pointer === pointer);

/** Errors of this field and of all that is in it. */
export const errorsWithin = (errors, pointer) => errors.filter((error) => isWithin(error.pointer, pointer));
