// A pen for canvases that writes SVG: what heat maps and planes are drawn with, for papers.
import { fileName, save, style } from "../page/files.js";

const ANCHORS = { center: "middle", right: "end", left: "start" };
const BASELINES = { middle: "central", alphabetic: "auto" };
const short = (number) => Number(number.toFixed(2));
export const escaped = (label) => String(label).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** The part of CanvasRenderingContext2D that our drawings use. */
export class SvgPen {
  constructor(width, height) {
    Object.assign(this, {
      size: [width, height], parts: [], path: [], open: [0], dash: [], clips: 0,
      strokeStyle: "#000", fillStyle: "#000", lineWidth: 1, globalAlpha: 1,
      font: "10px sans-serif", textAlign: "left", textBaseline: "alphabetic",
    });
  }

  beginPath() { this.path = []; }
  moveTo(x, y) { this.path.push(`M${short(x)} ${short(y)}`); }
  lineTo(x, y) { this.path.push(`${this.path.length ? "L" : "M"}${short(x)} ${short(y)}`); }
  rect(x, y, wide, high) { this.path.push(`M${short(x)} ${short(y)}h${short(wide)}v${short(high)}h${-short(wide)}z`); }

  /** A whole circle. */
  arc(x, y, r) { this.path.push(`M${short(x - r)} ${short(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`); }

  setLineDash(dash) { this.dash = dash; }

  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.parts.push(`<path d="${this.path.join("")}" fill="none" stroke="${this.strokeStyle}" stroke-width="${
      this.lineWidth}"${dash}${this.opacity()}/>`);
  }

  fill() { this.parts.push(`<path d="${this.path.join("")}" fill="${this.fillStyle}"${this.opacity()}/>`); }

  strokeRect(...box) {
    this.beginPath();
    this.rect(...box);
    this.stroke();
  }

  fillText(text, x, y) {
    const [size, family] = this.font.match(/^(\S+)px (.*)$/).slice(1);
    this.parts.push(`<text x="${short(x)}" y="${short(y)}" fill="${this.fillStyle}" font-size="${size}" font-family="${
      escaped(family)}" text-anchor="${ANCHORS[this.textAlign]}" dominant-baseline="${
      BASELINES[this.textBaseline]}"${this.opacity()}>${escaped(text)}</text>`);
  }

  measureText(text) {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = this.font;
    return pen.measureText(text);
  }

  drawImage(canvas, x, y, wide, high) {
    this.parts.push(`<image href="${canvas.toDataURL()}" x="${x}" y="${y}" width="${wide}" height="${
      high}" image-rendering="pixelated" preserveAspectRatio="none"/>`);
  }

  save() { this.open.push(0); }
  restore() { this.parts.push("</g>".repeat(this.open.pop())); }

  clip() {
    const name = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${name}"><path d="${this.path.join("")}"/></clipPath>`);
    this.group(`clip-path="url(#${name})"`);
  }

  translate(x, y) { this.group(`transform="translate(${short(x)} ${short(y)})"`); }
  rotate(radians) { this.group(`transform="rotate(${short((radians * 180) / Math.PI)})"`); }

  group(attributes) {
    this.parts.push(`<g ${attributes}>`);
    this.open[this.open.length - 1]++;
  }

  opacity() { return this.globalAlpha < 1 ? ` opacity="${short(this.globalAlpha)}"` : ""; }

  /** Save what was drawn, on the ground that the page shows it on. */
  download(title) {
    const [width, height] = this.size;
    const text = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" stroke-linejoin="round">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" fill="${style("--panel")}"/>
${this.parts.join("\n")}
</svg>`;
    save(new Blob([text], { type: "image/svg+xml" }), fileName(title, "svg"));
  }
}
