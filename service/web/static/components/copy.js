// Text that is there to be taken elsewhere.
import { html, useState } from "../page/html.js";

export function Copy({ text, label = "Copy" }) {
  const [said, say] = useState(label);
  const copy = async () => {
    // browsers offer no clipboard to pages that came over plain http from another machine
    const copied = navigator.clipboard?.writeText(text) ?? Promise.reject();
    await copied.then(() => say("Copied"), () => say("Select and copy it"));
    setTimeout(() => say(label), 2000);
  };
  return html`<button class="button small" type="button" onClick=${copy} aria-live="polite">${said}</button>`;
}

/** Code with its button. */
export const Code = ({ text, label }) => html`
  <div class="code"><pre tabindex="0" aria-label=${label}><code>${text}</code></pre><${Copy} text=${text} /></div>`;
