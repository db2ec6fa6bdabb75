// A stats server on the usual Node.js stack: Express, Socket.IO, its Redis adapter, MongoDB.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import express from 'express';
import jwt from 'jsonwebtoken';
import { MongoClient } from 'mongodb';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import { BadRequest, StatsStore } from './stats.mjs';
import { SyncStore } from './sync.mjs';

const { PORT = '3000', MONGODB_URI, MONGODB_DB, REDIS_URL, JWT_SECRET, SYNC_LOG } = process.env;

const mongo = await new MongoClient(MONGODB_URI).connect();
const store = new StatsStore(mongo.db(MONGODB_DB));
const entities = new SyncStore(mongo.db(MONGODB_DB), SYNC_LOG === '1');
await entities.prepare();
const pub = createClient({ url: REDIS_URL });
const sub = pub.duplicate();
for (const client of [pub, sub]) client.on('error', (error) => console.error('redis:', error));
await Promise.all([pub.connect(), sub.connect()]);

const room = (userId) => `user:${userId}`;
const failure = (code, message) => ({ ok: false, error: { code, message } });

/** The user id of a token; throws when it is not one of ours. */
function userOf(token) {
  const { sub: userId } = jwt.verify(token, JWT_SECRET, { algorithms: ['HS256'] });
  if (typeof userId !== 'string' || !userId) throw new Error('the token names no user');
  return userId;
}

const app = express();
app.disable('x-powered-by');
app.use(express.json());

function authenticate(req, res, next) {
  const [scheme, token] = (req.get('authorization') ?? '').split(' ');
  try {
    if (scheme !== 'Bearer') throw new Error('no bearer token');
    req.userId = userOf(token);
  } catch {
    res.status(401).json(failure('unauthorized', 'send a valid token'));
    return;
  }
  next();
}

app.get('/health', (req, res) => res.json({ status: 'OK' }));

app.get('/api/users/:id/stats', authenticate, async (req, res) => {
  if (req.params.id !== req.userId) {
    res.status(403).json(failure('forbidden', 'only your own stats'));
    return;
  }
  res.json(await store.load(req.userId));
});

app.post('/api/users/data/patch', authenticate, async (req, res) => {
  const stats = await store.patch(req.userId, req.body);
  io.to(room(req.userId)).emit('user:data:updated', stats);
  res.json(stats);
});

app.post('/api/sync', authenticate, async (req, res) => {
  const data = await entities.sync(req.userId, req.body);
  io.to(room(req.userId)).emit('sync:changed', { syncTimestamp: data.syncTimestamp });
  res.json({ success: true, data });
});

app.use((error, req, res, next) => {
  const status = error instanceof BadRequest ? 400 : (error.status ?? 500);
  if (status >= 500) console.error(error);
  const answer = status < 500 ? ['bad_request', error.message] : ['internal', 'try again later'];
  res.status(status).json(failure(...answer));
});

const http = createServer(app);
const io = new Server(http, { adapter: createAdapter(pub, sub) });

io.use((socket, next) => {
  try {
    socket.data.userId = userOf(socket.handshake.auth.token);
    next();
  } catch {
    next(new Error('unauthorized'));
  }
});

io.on('connection', (socket) => {
  const { userId } = socket.data;

  /** Listens for an event whose answer, or error, is acked when the client asked for an ack. */
  const on = (event, handle) => {
    socket.on(event, async (...args) => {
      const ack = typeof args.at(-1) === 'function' ? args.pop() : () => {};
      try {
        ack(await handle(args[0]));
      } catch (error) {
        if (error instanceof BadRequest) {
          ack(failure('bad_request', error.message));
        } else {
          console.error(error);
          ack(failure('internal', 'try again later'));
        }
      }
    });
  };

  on('presence:join', async () => {
    await socket.join(room(userId));
    return { ok: true, userId, sessionId: socket.id, stats: await store.load(userId) };
  });

  on('presence:ping', (payload) => {
    const pong = { t: payload?.t, serverTime: new Date().toISOString() };
    socket.emit('presence:pong', pong);
    return pong;
  });

  on('user:clientUpdate', async (patch) => {
    const stats = await store.patch(userId, patch);
    socket.to(room(userId)).emit('user:data:updated', stats);
    return { ok: true, stats, rev: stats.rev };
  });
});

async function stop() {
  setTimeout(() => process.exit(0), 5000).unref();
  await io.close(); // also ends the HTTP server
  await Promise.allSettled([pub.close(), sub.close(), mongo.close()]);
  process.exit(0);
}
process.once('SIGTERM', stop);
process.once('SIGINT', stop);

http.listen(Number(PORT), '127.0.0.1', () => console.log(`listening on ${PORT}`));
