import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { paperSchedule, type Schedule, sparsityAt, targetSparsity } from '../../lib/prune/schedule.ts';

const targetType = fc.constantFrom('one-shot', 'linear', 'exponential', 'cubic' as const);
const schedules: fc.Arbitrary<Schedule> = fc.oneof(
  fc
    .record({
      type: targetType,
      sparsity: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
      rounds: fc.integer({ min: 1, max: 50 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    .map(({ share, ...schedule }) => ({ ...schedule, initial: share * schedule.sparsity })),
  fc.record({
    type: fc.constant('rounds' as const),
    fractions: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 3 }),
    rounds: fc.integer({ min: 1, max: 50 }),
  }),
);

describe('targetSparsity', () => {
  it('has the values of the formulas', () => {
    const at = (type: 'one-shot' | 'linear' | 'exponential' | 'cubic') =>
      [0, 1, 2, 3].map((round) => targetSparsity({ type, sparsity: 0.9375, rounds: 4 }, round));
    expect(at('one-shot')).toEqual([0.9375, 0.9375, 0.9375, 0.9375]);
    expect(at('linear')).toEqual([0.234375, 0.46875, 0.703125, 0.9375]);
    expect(at('exponential')).toEqual([0.5, 0.75, 0.875, 0.9375]);
    // 0.9375 * (1 - (3/4)^3), ...
    expect(at('cubic').map((s) => s / 0.9375)).toEqual([37 / 64, 56 / 64, 63 / 64, 1]);
  });

  it('starts from the initial sparsity', () => {
    for (const type of ['linear', 'exponential', 'cubic'] as const)
      expect(sparsityAt({ type, sparsity: 0.9, rounds: 5, initial: 0.5 }, 0)).toBe(0.5);
    expect(targetSparsity({ type: 'linear', sparsity: 0.9, rounds: 2, initial: 0.5 }, 0)).toBeCloseTo(
      0.7,
      12,
    );
    expect(targetSparsity({ type: 'cubic', sparsity: 0.9, rounds: 2, initial: 0.5 }, 0)).toBeCloseTo(
      0.85,
      12,
    );
  });

  it('of the paper: what is left shrinks by the fraction of each layer', () => {
    const paper = paperSchedule();
    expect(paper).toEqual({ type: 'rounds', fractions: [0.2, 0.2, 0.1], rounds: 16 });
    expect(targetSparsity(paper, 10, 0)).toBeCloseTo(1 - 0.8 ** 11, 12);
    expect(targetSparsity(paper, 15, 2)).toBeCloseTo(1 - 0.9 ** 16, 12);
    expect(paperSchedule(1, 3).fractions).toEqual([0.1]);
  });

  it('never falls, stays within initial and target, and ends at the target', () => {
    fc.assert(
      fc.property(schedules, (schedule) => {
        let last = schedule.type === 'rounds' ? 0 : (schedule.initial ?? 0);
        for (let round = 0; round < schedule.rounds; round++) {
          const now = targetSparsity(schedule, round);
          expect(now).toBeGreaterThanOrEqual(last - 1e-12);
          expect(now).toBeLessThanOrEqual(1);
          last = now;
        }
        if (schedule.type !== 'rounds') expect(last).toBe(schedule.sparsity);
      }),
    );
  });

  it('names what is wrong', () => {
    const bad = (schedule: unknown, round: unknown = 0, layer?: number) =>
      expect(() => targetSparsity(schedule as Schedule, round as number, layer));
    bad(null).toThrow(TypeError);
    bad({ type: 'sudden', sparsity: 0.5, rounds: 1 }).toThrow(/schedule.type must be one of/);
    bad({ type: 'linear', sparsity: '0.5', rounds: 1 }).toThrow(/schedule.sparsity must be a number/);
    bad({ type: 'linear', sparsity: Number.NaN, rounds: 1 }).toThrow(RangeError);
    bad({ type: 'linear', sparsity: 1.01, rounds: 1 }).toThrow(/schedule.sparsity/);
    bad({ type: 'linear', sparsity: 0.5, rounds: 1.5 }).toThrow(/schedule.rounds/);
    bad({ type: 'linear', sparsity: 0.5, rounds: 0 }).toThrow(/schedule.rounds/);
    bad({ type: 'linear', sparsity: 0.5, rounds: 1, initial: 0.6 }).toThrow(/schedule.initial/);
    bad({ type: 'exponential', sparsity: 1, rounds: 2 }).toThrow(/less than 1/);
    bad({ type: 'rounds', fractions: 0.2, rounds: 2 }).toThrow(/schedule.fractions must be an array/);
    bad({ type: 'rounds', fractions: [0.2, -1], rounds: 2 }).toThrow(/schedule.fractions\[1\]/);
    bad(paperSchedule(), 16).toThrow(/round must be a whole number from 0 to 15/);
    bad(paperSchedule(), 0, 3).toThrow(/layer must be/);
    bad({ type: 'rounds', fractions: [], rounds: 2 }).toThrow(/schedule.fractions must be/);
    bad({ type: 'linear', sparsity: 0.5, rounds: 1 }, 0, 1.5).toThrow(/layer must be/);
    expect(() => sparsityAt(paperSchedule(), 1.1)).toThrow(/progress/);
    expect(() => paperSchedule(0)).toThrow(/layers/);
    expect(() => paperSchedule(3, -1)).toThrow(/rounds/);
  });
});
