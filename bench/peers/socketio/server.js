// Socket.IO as its documentation writes it: rooms, `io.to(room).emit`, acknowledgement callbacks.
// Run as `node server.js PORT`; only the WebSocket transport, compression off (its default).
"use strict";
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.on("connection", (socket) => {
  socket.on("sub", (room, done) => {
    socket.join(room);
    done();
  });
  socket.on("pub", (room, message, done) => {
    io.to(room).emit("m", message);
    if (done) done();
  });
});

http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
