// What went wrong, where, and what to do.
import { html } from "../page/html.js";

/** `error`: an ApiError or any other; `retry`: what to do again, if that may help; children: where else to go. */
export function Problem({ error, retry, children }) {
  const { title, hint, errors = [] } = error.problem ?? {};
  return html`
    <div class="problem" role="alert">
      <strong>${title ?? "This did not work"}</strong>
      <p>${error.message}</p>
      ${errors.length > 0 && html`
        <ul>${errors.map((each) => html`<li><code>${each.pointer}</code> ${each.detail} ${each.hint}</li>`)}</ul>`}
      ${hint && errors.length === 0 && html`<p>${hint}</p>`}
      ${children}
      ${retry && error.status !== 404 && html`<button class="button" onClick=${retry}>Try again</button>`}
    </div>`;
}
