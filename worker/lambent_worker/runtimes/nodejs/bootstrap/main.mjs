// Entry of an instance: `node main.mjs`, or parked `node main.mjs 3`, which waits on that descriptor to be
// told whom it is for. Nothing but Node.js itself is imported.

import { RuntimeApi } from "./api.mjs";
import { awslambda } from "./streaming.mjs";
import { failure, logFailure } from "./failure.mjs";
import { install as installConsole } from "./console.mjs";
import { load } from "./loader.mjs";
import { Runtime } from "./runtime.mjs";
import { specialise } from "./parked.mjs";
import { install as installTraceId } from "./trace_id.mjs";

const parkedOn = process.argv[2];
if (parkedOn !== undefined) {
  await (await import("./rehearsal.mjs")).rehearse();
  specialise(Number(parkedOn));
  process.argv.pop();
}

installConsole();
installTraceId();
globalThis.awslambda = awslambda;

const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);
const runtime = new Runtime(api);
process.on("uncaughtException", (error) => runtime.broke(error, "Uncaught Exception", 129));
process.on("unhandledRejection", (reason, promise) => runtime.rejected(reason, promise));
process.on("beforeExit", () => runtime.loopIsEmpty());

try {
  const handler = await load(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  await new Promise(setImmediate); // a rejection that nobody catches is still one of this phase
  runtime.start(handler);
} catch (error) {
  logFailure(error, "Uncaught Exception");
  await api.initFailed(failure(error));
  process.exit(1);
}
