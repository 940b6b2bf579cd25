// Which view stands at which address: #/name, #/name/<id>, each with ?query. One line a view.
import { View as Gallery } from "../views/gallery.js";

export const VIEWS = {
  "": { View: Gallery, title: "Experiments" },
};

/** What the header leads to, where the view exists. */
export const NAVIGATION = ["", "compose", "runs", "kernels", "regime"];
