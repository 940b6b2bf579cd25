// Which view stands at which address: #/name, #/name/<id>, each with ?query. One line a view.
import { View as Gallery } from "../views/gallery.js";
import { View as Runs } from "../views/runs.js";
import { View as Compose } from "../views/compose.js";
import { View as Kernels } from "../views/kernels.js";
import { View as Regime } from "../views/regime.js";
import { View as Sweeps } from "../views/sweeps.js";
import { View as Compare } from "../views/compare.js";
import { View as Influence } from "../views/influence.js";

export const VIEWS = {
  "": { View: Gallery, title: "Experiments" },
  runs: { View: Runs, title: "Runs" },
  compose: { View: Compose, title: "Compose" },
  kernels: { View: Kernels, title: "Kernels" },
  regime: { View: Regime, title: "Regime" },
  sweeps: { View: Sweeps, title: "Sweeps" },
  influence: { View: Influence, title: "Influence" },
  compare: { View: Compare, title: "Compare" },
};

/** What the header leads to, where the view exists. */
export const NAVIGATION = ["", "compose", "runs", "kernels", "regime", "sweeps", "influence"];
