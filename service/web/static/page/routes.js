// Which view stands at which address: #/name, #/name/<id>, each with ?query. One line a view.
import { View as Gallery } from "../views/gallery.js";
import { View as Compose } from "../views/compose.js";

export const VIEWS = {
  "": { View: Gallery, title: "Experiments" },
  compose: { View: Compose, title: "Compose" },
};

/** What the header leads to, where the view exists. */
export const NAVIGATION = ["", "compose", "runs", "kernels", "regime"];
