// A client of Node.js's own HTTP/2: unary calls at once, an error, a cancelled one. Prints what it saw as JSON.
import http2 from "node:http2";

const session = http2.connect(`http://${process.argv[2]}`, { settings: { initialWindowSize: 1000 } });
const message = (name, payload) => {
  const field = (number, bytes) => {
    let size = bytes.length;
    const length = [];
    for (; size > 127; size >>>= 7) length.push((size & 127) | 128);
    return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, size]), bytes]);
  };
  const body = Buffer.concat([field(1, Buffer.from(name)), field(2, payload)]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
};
const call = (name, payload, { cancel = false, path = "/lambent.v1.Invocations/Invoke" } = {}) =>
  new Promise((resolve) => {
    const seen = { bytes: 0 };
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      te: "trailers",
      "content-type": "application/grpc+proto",
    });
    stream.on("response", (headers) => {
      seen.status = headers[":status"];
      seen.code = headers["grpc-status"];
    });
    stream.on("data", (data) => (seen.bytes += data.length));
    stream.on("trailers", (trailers) => (seen.code = trailers["grpc-status"]));
    stream.on("error", () => {});
    stream.on("close", () => resolve({ ...seen, reset: stream.rstCode }));
    stream.end(message(name, payload));
    if (cancel) setImmediate(() => stream.close(http2.constants.NGHTTP2_CANCEL));
  });

const many = await Promise.all(Array.from({ length: 100 }, () => call("echo", Buffer.from("{}"))));
const large = await call("echo", Buffer.alloc(3_000_000, "1"));
const unknown = await call("unknown", Buffer.from("{}"));
const absent = await call("echo", Buffer.from("{}"), { path: "/nobody/Nothing" });
const cancelled = await call("held", Buffer.from("{}"), { cancel: true });
console.log(JSON.stringify({ many, large, unknown, absent, cancelled }));
session.close();
