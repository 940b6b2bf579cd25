// The one place that knows which libraries draw the page.
import { h } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render, Component, Fragment } from "../vendor/preact.js";
export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useId } from "../vendor/hooks.js";
export { signal, computed, effect, batch, untracked, useSignal, useComputed } from "../vendor/signals.js";

export const html = htm.bind(h);
