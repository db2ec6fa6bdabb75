"""The websocket driver under python-socketio: every private hook of ours is in this package.

Pinned: python-socketio 5.18.1, python-engineio 4.15.1, aiohttp 3.14.5. What it closes:

- a client that leaves while its connect handler awaits is still cleaned up (ghosts);
- a frame that is not valid protocol ends its connection at once, cleanly, quietly;
- what waits for a slow reader is bounded, documents coalesced, then the reader is dropped;
- no permessage-deflate: it costs 100 KB a connection for payloads of 300 bytes;
- one client's events keep their order, while pongs and pings never wait;
- a connection that joins no namespace is closed after `connect_timeout`;
- a long-poll that is doubled, cut off or overdue ends its session, as the protocol has it.

After the handshake a websocket leaves aiohttp: its transport gets `Wire`, a callback
protocol, so that no task, request or stream reader stays per connection. Frames are still
parsed by aiohttp's C reader. Long-polling keeps the library's path; the upgrade probe ends
in a `Wire` like any other websocket (docs/decisions/0002-transport.md).

`wire` touches aiohttp, `session` and `engine` python-engineio, `server` python-socketio.
"""

from realtime.frames import Event
from realtime.transport.server import CorsOrigins, SocketServer
from realtime.transport.session import FLOOD, Endpoint, Socket

__all__ = ["FLOOD", "CorsOrigins", "Endpoint", "Event", "Socket", "SocketServer"]
