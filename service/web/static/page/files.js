// What people take with them.
import { key, raw } from "./api.js";

/** Save `blob` under `name`. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export const fileName = (title, extension) => `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.${extension}`;

/** Save a canvas as PNG, on the ground it is shown on. */
export function savePng(canvas, title) {
  const copy = document.createElement("canvas");
  copy.width = canvas.width;
  copy.height = canvas.height;
  const pen = copy.getContext("2d");
  pen.fillStyle = style("--panel");
  pen.fillRect(0, 0, copy.width, copy.height);
  pen.drawImage(canvas, 0, 0);
  copy.toBlob((blob) => save(blob, fileName(title, "png")));
}

/** Save rows of numbers under a row of names. */
export function saveCsv(names, rows, title) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [names.map(quoted), ...rows].map((row) => row.map((cell) => cell ?? "").join(","));
  save(new Blob([lines.join("\n"), "\n"], { type: "text/csv" }), fileName(title, "csv"));
}

/** A click on a link to a file of the service: browsers follow links without the key, so that we fetch it. */
export async function fetched(event) {
  if (!key()) return;
  event.preventDefault();
  const { href, download } = event.currentTarget;
  save(new Blob([await raw(href)]), download);
}

/** The value of a custom property of the page's style, which depends on light and dark. */
export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Colours that lines are drawn in, in turn. */
export const lineColor = (index) => style(`--s${(index % 8) + 1}`);
