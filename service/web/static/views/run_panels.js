// What a run shows at the chosen time: the kernel, the weight plane, the learned function.
export const panelsOf = () => [];
