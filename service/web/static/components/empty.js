// What is shown where there is nothing, or nothing yet.
import { html } from "../page/html.js";

export const Empty = ({ title, children }) => html`
  <div class="empty"><strong>${title}</strong><p>${children}</p></div>`;

export const Loading = ({ what = "Loading" }) => html`
  <div class="loading" role="status"><span class="dots" aria-hidden="true"></span>${what}…</div>`;
