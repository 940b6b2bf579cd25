// What a run shows at the chosen time, each where what it needs was recorded.
import { FunctionPanel, hasFunction } from "./run_function.js";
import { KernelPanel, hasKernel } from "./run_kernel.js";
import { WeightPlane, hasPlane } from "./run_plane.js";

const PANELS = [
  { name: "plane", Panel: WeightPlane, shown: hasPlane },
  { name: "kernel", Panel: KernelPanel, shown: hasKernel },
  { name: "function", Panel: FunctionPanel, shown: hasFunction },
];

export const panelsOf = (all, run) => PANELS.filter(({ shown }) => shown(all, run));
