// The stats document: what a patch may hold, and how it is stored.

export const NUMBERS = {
  xp: 0, hearts: 5, diamonds: 0, level: 1, streak: 0, accuracy: 0, maxStreak: 0,
  completedQuestions: 0, correctAnswers: 0, wrongAnswers: 0, totalQuestions: 0, totalTimeSpent: 0,
};
const DEFAULTS = { ...NUMBERS, timePerQuestion: [], lastGameResults: {} };
const IGNORED = new Set(['userId', 'opId', 'deviceId', 'updatedAt']);
const KEPT_TIMES = 1000;
const DUPLICATE_KEY = 11000;

export class BadRequest extends Error {}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const isNumber = (value) => typeof value === 'number' && Math.abs(value) <= Number.MAX_SAFE_INTEGER;
const isTimes = (value) => Array.isArray(value) && value.every(isNumber);

function check(good, name, what) {
  if (!good) throw new BadRequest(`${name} must be ${what}`);
}

function checkSet(name, value) {
  if (name === 'timePerQuestion') check(isTimes(value), name, 'an array of numbers');
  else if (name === 'lastGameResults') check(isObject(value), name, 'an object');
  else if (Object.hasOwn(NUMBERS, name)) check(isNumber(value), name, 'a finite number');
  else throw new BadRequest(`${name} is not a stats field`);
}

/** The MongoDB update for a patch; what `__set` names wins over a delta of the same field. */
export function toUpdate(patch) {
  check(isObject(patch), 'the patch', 'an object');
  const { __set = {}, timePerQuestion, ...deltas } = patch;
  check(isObject(__set), '__set', 'an object');
  for (const [name, value] of Object.entries(__set)) checkSet(name, value);

  const $set = { ...__set, updatedAt: new Date() };
  const $inc = { rev: 1 };
  for (const [name, value] of Object.entries(deltas)) {
    if (IGNORED.has(name)) continue;
    if (!Object.hasOwn(NUMBERS, name)) throw new BadRequest(`${name} is not a stats field`);
    check(isNumber(value), name, 'a finite number');
    if (!(name in $set)) $inc[name] = value;
  }
  const update = { $set, $inc };
  if (timePerQuestion !== undefined) {
    check(isTimes(timePerQuestion), 'timePerQuestion', 'an array of numbers');
    if (!('timePerQuestion' in $set)) {
      update.$push = { timePerQuestion: { $each: timePerQuestion, $slice: -KEPT_TIMES } };
    }
  }
  // MongoDB refuses one path in two operators: defaults only for what is not touched above.
  const touched = { ...$set, ...$inc, ...update.$push };
  const untouched = Object.entries(DEFAULTS).filter(([name]) => !(name in touched));
  update.$setOnInsert = Object.fromEntries(untouched);
  return update;
}

/** The document as clients see it, with defaults for a user never written (`stored` is null). */
export function toWire(userId, stored) {
  const { _id, rev = 0, updatedAt = new Date(0), ...values } = stored ?? {};
  return { userId, rev, updatedAt: updatedAt.toISOString(), ...DEFAULTS, ...values };
}

export class StatsStore {
  constructor(db) {
    this.stats = db.collection('user_stats', { writeConcern: { w: 'majority' } });
  }

  async load(userId) {
    return toWire(userId, await this.stats.findOne({ _id: userId }));
  }

  async patch(userId, patch) {
    const update = toUpdate(patch);
    // $inc would start a new user's hearts at 0, not 5: that user gets the defaults first.
    const upsert = !Object.keys(update.$inc).some((name) => NUMBERS[name]);
    let stored = await this.#write(userId, update, upsert);
    if (stored === null) {
      await this.#write(userId, { $setOnInsert: { rev: 0, ...DEFAULTS } }, true);
      stored = await this.#write(userId, update, true);
    }
    return toWire(userId, stored);
  }

  async #write(userId, update, upsert) {
    const write = () =>
      this.stats.findOneAndUpdate({ _id: userId }, update, { upsert, returnDocument: 'after' });
    try {
      return await write();
    } catch (error) {
      // Two first writes raced; the other one inserted the document.
      if (error.code !== DUPLICATE_KEY) throw error;
      return write();
    }
  }
}
