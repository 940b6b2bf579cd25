// Eigenvalues of small symmetric matrices, for a picture of a spectrum.

export const LARGEST = 160; // rows; beyond, it would keep the page from answering
const SWEEPS = 30;
const SMALL = 1e-14; // off-diagonal part, relative to the whole, at which to stop

/** Eigenvalues of a symmetric matrix (rows), descending, by Jacobi's rotations. */
export function eigenvalues(matrix) {
  const a = matrix.map((row) => Float64Array.from(row));
  const whole = Math.sqrt(a.reduce((sum, row) => sum + row.reduce((part, x) => part + x * x, 0), 0));
  for (let sweep = 0; sweep < SWEEPS && offDiagonal(a) > SMALL * whole; sweep += 1) {
    for (let p = 0; p < a.length; p += 1) for (let q = p + 1; q < a.length; q += 1) rotate(a, p, q);
  }
  return a.map((row, i) => row[i]).sort((one, other) => other - one);
}

function offDiagonal(a) {
  let sum = 0;
  a.forEach((row, i) => row.forEach((x, j) => { sum += i === j ? 0 : x * x; }));
  return Math.sqrt(sum);
}

/** The rotation of rows and columns p and q that makes their entry 0. */
function rotate(a, p, q) {
  if (a[p][q] === 0) return;
  const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  for (let k = 0; k < a.length; k += 1) {
    const [x, y] = [a[k][p], a[k][q]];
    a[k][p] = c * x - s * y;
    a[k][q] = s * x + c * y;
  }
  const [row, other] = [a[p], a[q]];
  for (let k = 0; k < a.length; k += 1) {
    const [x, y] = [row[k], other[k]];
    row[k] = c * x - s * y;
    other[k] = s * x + c * y;
  }
}
