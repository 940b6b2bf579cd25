// Networks of one input and one hidden layer, f(x) = C sum_i v_i act(A w_i x + B b_i), small enough to compute here;
// and what mean-field networks become at infinite width, where neurons are weighed by their probabilities.

const ACTIVATIONS = {
  linear: [(z) => z, () => 1],
  quadratic: [(z) => z * z, (z) => 2 * z],
  relu: [(z) => Math.max(0, z), (z) => (z > 0 ? 1 : 0)],
  tanh: [Math.tanh, (z) => 1 - Math.tanh(z) ** 2],
  sin: [Math.sin, Math.cos],
};
const AGREE = 1e-6;

/** What the trained tensor of a layer is multiplied with: [weights, bias], by parameterization. */
const MULTIPLIERS = {
  ntk: ({ W_std, b_std }, fanIn) => [W_std / Math.sqrt(fanIn), b_std],
  standard: (layer, fanIn, { base_width: base }, hidden) => [hidden && base ? Math.sqrt(base / fanIn) : 1, 1],
  mean_field: ({ W_std, b_std }, fanIn, _, hidden) => [W_std / (hidden ? fanIn : 1), b_std],
  mup: ({ W_std, b_std }, fanIn, _, hidden) => [W_std / (hidden ? fanIn : 1), b_std],
};

/** The network of `spec`, or null where it is another one or has no plane of weights. */
export function networkOf({ model, data, training }) {
  const [first, middle, last] = model.layers;
  const shaped = model.layers.length === 3 && first.kind === "dense" && last.kind === "dense" && last.width === 1;
  const onLine = Array.isArray(data.x) && Array.isArray(data.y) && data.x.every((row) => row.length === 1);
  const activation = middle && !middle.scale && ACTIVATIONS[middle.kind];
  const multiplier = MULTIPLIERS[model.parameterization.kind];
  if (!shaped || !onLine || !activation || !multiplier) return null;
  const isLimit = training.kind === "mean_field";
  const [A, B] = multiplier(first, 1, model.parameterization, false);
  const [C, D] = multiplier(last, isLimit ? 1 : first.width, model.parameterization, true);
  return new Network(activation, { A, B, C: C * model.output_scale, D: D * model.output_scale }, data);
}

class Network {
  constructor([act, slope], factors, data) {
    this.act = act;
    this.slope = slope;
    Object.assign(this, factors);
    this.points = data.x.map(([x], i) => ({ x, y: data.y[i][0] }));
  }

  /** The output at x for weights {w, v, b, c, p}: lists over neurons, the read-out's bias, and probabilities. */
  output({ w, v, b, c, p }, x) {
    const { act, A, B, C, D } = this;
    const sum = w.reduce((all, each, i) => all + (p ? p[i] : 1) * v[i] * act(A * each * x + (b ? B * b[i] : 0)), 0);
    return C * sum + (c == null ? 0 : D * c);
  }

  /** Whether it is the network that was trained: its outputs are those that were recorded. */
  agrees(weights, outputs) {
    const most = Math.max(1e-3, ...outputs.map(Math.abs));
    return this.points.every(({ x }, i) => Math.abs(this.output(weights, x) - outputs[i]) <= AGREE * most);
  }

  /**
   * The plane of neuron `i` with all other weights fixed: `residuals(w, v)` are f(x_d) - y_d, and
   * `descent(w, v)` is minus the gradient of sum_d (f(x_d) - y_d)^2 / 2. Of infinitely many neurons one alone
   * changes no output: `residuals` is empty, and `descent` how a neuron that is there would move.
   */
  plane(weights, i) {
    const { act, slope, A, B, C, points } = this;
    const shift = weights.b ? B * weights.b[i] : 0;
    const isAlone = !weights.p;
    const without = { ...weights, v: weights.v.map((each, j) => (isAlone && j === i ? 0 : each)) };
    const rest = points.map(({ x, y }) => this.output(without, x) - y);
    const residual = (d, w, v) => rest[d] + (isAlone ? C * v * act(A * w * points[d].x + shift) : 0);
    return {
      residuals: isAlone ? points.map((_, d) => (w, v) => residual(d, w, v)) : [],
      descent: (w, v) => points.reduce(([dw, dv], { x }, d) => {
        const [z, r] = [A * w * x + shift, residual(d, w, v)];
        return [dw - r * C * v * slope(z) * A * x, dv - r * C * act(z)];
      }, [0, 0]),
    };
  }
}

/** Weights {w, v, b, c, p} at point `i` of what was recorded under `prefix`, of a member where there are several. */
export function weightsAt(all, prefix, i, member) {
  const of = (name) => {
    const value = all.get(`${prefix}/${name}`)?.value[i];
    return value == null || value.kind ? null : (member === null ? value : value[member]).flat();
  };
  const [w, v] = [of("layers.0.W"), of("layers.2.W")];
  return w && v ? { w, v, b: of("layers.0.b"), c: of("layers.2.b")?.[0], p: of("probabilities") } : null;
}
