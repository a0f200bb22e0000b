// A client of @grpc/grpc-js: what it sees of a server of `Invocations`, as JSON.
// Arguments: HOST:PORT, a folder with the package in node_modules, the folder of the .proto files, maybe a CA's PEM.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [address, packages, protos, ca] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const { Invocations } = grpc.loadPackageDefinition(
  loader.loadSync("lambent_proto/v1/invoke.proto", { includeDirs: [protos], keepCase: true, longs: Number }),
).lambent.v1;
const credentials = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
const usual = { "grpc.keepalive_time_ms": 1000, "grpc.max_receive_message_length": 64 * 1024 * 1024 };
const connect = (options) => new Invocations(address, credentials, { ...usual, ...options });
const client = connect({});

const ask = (from, name, payload, { within = 30000, cancelled = false } = {}) =>
  new Promise((resolve) => {
    const seen = {};
    const request = { function_name: name, payload: Buffer.from(payload) };
    const call = from.Invoke(request, { deadline: Date.now() + within }, (error, answer) => {
      seen.code = error ? error.code : 0;
      seen.said = error ? error.details : undefined;
      seen.bytes = error ? 0 : answer.payload.length;
    });
    call.on("status", (status) => {
      const { metadata } = status;
      resolve({
        ...seen,
        code: status.code,
        request: metadata.get("lambent-request-id"),
        details: metadata.get("grpc-status-details-bin").length,
      });
    });
    if (cancelled) setTimeout(() => call.cancel(), 300);
  });

const large = Buffer.alloc(6_000_000, "1");
const stream = (messages, each) =>
  new Promise((resolve, reject) => {
    const call = client.InvokeStream();
    const ids = [];
    call.on("data", ({ results }) => ids.push(...results.map((it) => it.id)));
    call.on("end", () => resolve(ids));
    call.on("error", reject);
    for (let message = 0; message < messages; message++) {
      const invocations = Array.from({ length: each }, (_, at) => ({
        id: message * each + at + 1,
        request: { function_name: "echo", payload: Buffer.alloc(10_000, "1") },
      }));
      call.write({ invocations });
    }
    call.end();
  });
const parts = () =>
  new Promise((resolve, reject) => {
    const call = client.InvokeWithResponseStream({ function_name: "echo", payload: large });
    let bytes = 0;
    call.on("data", (it) => (bytes += it.part ? it.part.length : 0));
    call.on("end", () => resolve(bytes));
    call.on("error", reject);
  });

const seen = {
  many: await Promise.all(Array.from({ length: 200 }, () => ask(client, "echo", "{}"))),
  large: await Promise.all(Array.from({ length: 3 }, () => ask(client, "echo", large))),
  packed: await ask(connect({ "grpc.default_compression_algorithm": 2 }), "echo", large),
  unknown: await ask(client, "unknown", "{}"),
  late: await ask(client, "held", "{}", { within: 300 }),
  cancelled: await ask(client, "held", "{}", { cancelled: true }),
  ids: await stream(50, 20),
  parts: await parts(),
};
console.log(JSON.stringify(seen));
process.exit(0);
