// Sync as its document has it: the changes of a push one after the other, then what is newer.

const PLURALS = { space: 'spaces', category: 'categories', item: 'items' };
const DUPLICATE_KEY = 11000;

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/** A row as clients see it. */
const toWire = ({ _id, ...row }) => ({ id: _id, _id, ...row });

export class SyncStore {
  /** With `logs` each change also gets its row in the log of operations. */
  constructor(db, logs) {
    const collection = (name) => db.collection(name, { writeConcern: { w: 'majority' } });
    this.entities = Object.fromEntries(
      Object.entries(PLURALS).map(([type, plural]) => [type, collection(plural)]),
    );
    this.log = logs ? collection('sync_logs') : null;
  }

  async prepare() {
    for (const rows of Object.values(this.entities)) {
      await rows.createIndex({ userId: 1, updatedAt: 1 });
    }
  }

  async sync(userId, { deviceId, lastSyncTimestamp, changes = [] }) {
    const syncTimestamp = new Date();
    const acknowledged = [];
    for (const change of changes) {
      acknowledged.push(await this.#apply(userId, change.deviceId ?? deviceId, change));
    }
    const since = lastSyncTimestamp ? new Date(lastSyncTimestamp) : new Date(0);
    const newer = { userId, updatedAt: { $gt: since }, deviceId: { $ne: deviceId } };
    const found = await Promise.all(
      Object.entries(this.entities).map(async ([type, rows]) => [
        PLURALS[type],
        (await rows.find(newer).toArray()).map(toWire),
      ]),
    );
    return { acknowledged, serverUpdates: Object.fromEntries(found), syncTimestamp };
  }

  async #apply(userId, deviceId, change) {
    const { operationId, id, entityType, operation, data } = change;
    const rows = this.entities[entityType];
    const timestamp = new Date(change.timestamp);
    const deletes = operation === 'delete';
    if (!rows || Number.isNaN(timestamp.getTime()) || !(deletes || isObject(data))) {
      return { operationId, id, success: false };
    }
    // An upsert that finds a newer row meets its _id: the stored one wins.
    const older = { _id: id, userId, updatedAt: { $lte: timestamp } };
    const update = {
      $set: {
        ...(deletes ? {} : data),
        updatedAt: timestamp, deletedAt: deletes ? timestamp : null, deviceId,
      },
      $setOnInsert: { createdAt: timestamp },
    };
    try {
      await rows.findOneAndUpdate(older, update, { upsert: true });
    } catch (error) {
      if (error.code !== DUPLICATE_KEY) throw error;
      return { operationId, id, success: true, conflict: true };
    }
    await this.log?.insertOne({
      userId, deviceId, operationId, entityType, entityId: id, operation, changes: data, timestamp,
    });
    return { operationId, id, success: true };
  }
}
