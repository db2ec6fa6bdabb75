// One device on the real socket.io-client, steered from outside.
// Takes {url, token, options} as its argument. Prints one JSON array a line: what happens to it.
// Reads one JSON array a line: ["emit", name, payload], ["call", id, name, payload], ["close"].
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const { url, token, options } = JSON.parse(process.argv[2]);
const say = (...line) => process.stdout.write(JSON.stringify(line) + "\n");

const socket = io(url, { ...(token === null ? {} : { auth: { token } }), ...options });

socket.io.on("open", () => {
  const { engine } = socket.io;
  say("open", { transport: engine.transport.name });
  engine.once("upgrade", (transport) => say("upgrade", { transport: transport.name }));
});
socket.on("connect", () => say("connect", { id: socket.id }));
socket.on("connect_error", (error) => say("connect_error", { message: error.message, data: error.data ?? null }));
socket.on("disconnect", (reason) => say("disconnect", { reason, active: socket.active }));
socket.onAny((name, ...args) => say("event", { name, args }));
socket.io.on("reconnect_attempt", (attempt) => say("reconnect_attempt", { attempt }));

const commands = {
  emit: (name, ...args) => socket.emit(name, ...args),
  call: (id, name, ...args) => socket.emit(name, ...args, (...answer) => say("answer", { id, answer })),
  close: () => socket.close(),
};
for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...args] = JSON.parse(line);
  commands[command](...args);
}
socket.close();
process.exit(0);
