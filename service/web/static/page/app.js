// The frame around every view: header, address, the key that a service may ask for.
import { html, render, Component, signal, useEffect, useRef } from "./html.js";
import { keyWanted } from "./api.js";
import { NAVIGATION, VIEWS } from "./routes.js";
import { Problem } from "../components/problem.js";

const address = signal(parsed());

function parsed() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id] = path.split("/");
  return { name, id: id && decodeURIComponent(id), query: Object.fromEntries(new URLSearchParams(query)) };
}

addEventListener("hashchange", () => {
  const before = address.value;
  address.value = parsed();
  const { name, id } = address.value;
  if (name === before.name && id === before.id) return;
  scrollTo(0, 0);
  requestAnimationFrame(() => document.querySelector("main")?.focus({ preventScroll: true }));
});

/** Shows what a view could not, instead of nothing. */
class Guarded extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  render({ children }, { error }) {
    return error ? html`<${Problem} error=${error} />` : children;
  }
}

function Header({ name }) {
  const items = NAVIGATION.filter((each) => VIEWS[each]);
  return html`
    <header class="top">
      <a class="brand" href="#/"><img src="/static/icon.svg" alt="" width="28" height="28" /><span>ntkengine</span></a>
      <nav aria-label="Views">
        ${items.map((each) => html`
          <a href=${`#/${each}`} aria-current=${each === name ? "page" : null}>${VIEWS[each].title}</a>`)}
        <a href="/docs">API</a>
      </nav>
    </header>`;
}

function KeyDialog({ give }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  const enter = (event) => {
    event.preventDefault();
    give(new FormData(event.target).get("key"));
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="key-title" onCancel=${(event) => event.preventDefault()}>
      <form onSubmit=${enter}>
        <h2 id="key-title">A key is needed</h2>
        <p>The operator of this service makes keys: <code>ntk keys new NAME</code>. The key is kept until this
        tab is closed.</p>
        <label class="field">Key <input name="key" type="password" autocomplete="off" required /></label>
        <button class="button primary">Continue</button>
      </form>
    </dialog>`;
}

const Missing = () => html`
  <h1>Nothing is here</h1><p>The address leads nowhere. <a href="#/">Go to the experiments.</a></p>`;

function App() {
  const { name, id, query } = address.value;
  const { View, title } = VIEWS[name] ?? { View: Missing, title: "Not found" };
  useEffect(() => { document.title = `${title} · ntkengine`; }, [title]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <${Header} name=${name} />
    <main id="main" tabindex="-1">
      <${Guarded} key=${`${name}/${id}`}><${View} id=${id} query=${query} /><//>
    </main>
    ${keyWanted.value && html`<${KeyDialog} give=${keyWanted.value} />`}`;
}

function skip(event) {
  event.preventDefault(); // the part after # is the view's
  document.querySelector("main").focus();
}

render(html`<${App} />`, document.querySelector("#app"));
