/**
 * Mean test accuracies, %, of a clean PyTorch run of the paper's loop (2 to 4 seeds; same network, budget and data):
 * what ours are held against. By data set and round of the schedule; `random` is random blocks of 4x4.
 */
const COLUMNS = ['1x1', '2x2', '4x4', '6x6', '8x8', '16x16', 'random'];
const ROWS = {
  fashion: {
    3: [89.6, 89.6, 89.5, 89.5, 89.2, 89.2, 89.1],
    6: [89.3, 89.3, 89.0, 89.0, 88.9, 88.8, 88.6],
    10: [88.8, 88.8, 88.3, 88.3, 88.0, 87.5, 86.8],
    12: [88.6, 88.6, 87.7, 87.6, 86.7, 86.3, 85.3],
    15: [87.9, 87.3, 86.0, 85.9, 85.3, 83.7, 79.0],
  },
  mnist: {
    3: [98.3, 98.3, 98.2, 98.2, 98.2, 98.1, 98.0],
    6: [98.3, 98.2, 98.1, 98.0, 98.1, 97.9, 97.4],
    10: [98.1, 98.0, 97.8, 97.8, 97.8, 97.3, 95.2],
    12: [97.9, 97.9, 97.4, 97.5, 97.2, 96.5, 92.8],
    15: [97.5, 97.3, 96.4, 96.3, 95.6, 94.5, 75.8],
  },
};

export const REFERENCE_DENSE = { fashion: 89.6, mnist: 98.2 };

/** [block or 'random', accuracy] pairs; empty for other data. */
export function referenceOf(dataSet, round) {
  return (ROWS[dataSet]?.[round] ?? []).map((accuracy, i) => [COLUMNS[i], accuracy]);
}
