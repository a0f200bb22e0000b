// What an instance does until its first answer, done once for nobody before it is parked: what has run once is
// compiled. The events come from a server of its own; nothing of it is left.

import http from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import { RuntimeApi } from "./api.mjs";
import { runsFor } from "./console.mjs";
import { load } from "./loader.mjs";
import { Runtime } from "./runtime.mjs";

const require = createRequire(import.meta.url);

/** One that fails costs time, and a line in the log of whoever gets the process. */
export async function rehearse() {
  const server = http.createServer(answer);
  try {
    await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
    const api = new RuntimeApi(`127.0.0.1:${server.address().port}`);
    const folder = fileURLToPath(new URL(".", import.meta.url));
    for (const file of ["rehearsed-script", "rehearsed-module"]) {
      await new Runtime(api).one(await load(folder, `${file}.handler`));
    }
    api.close();
  } catch (error) {
    process.stderr.write(`lambent: the rehearsal of a call failed: ${error}\n`);
  }
  runsFor(undefined);
  for (const file of Object.keys(require.cache)) {
    delete require.cache[file];
  }
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

function answer(request, response) {
  request.resume();
  request.on("end", () => {
    response.writeHead(request.method === "GET" ? 200 : 202, {
      "Content-Type": "application/json",
      "Lambda-Runtime-Aws-Request-Id": "rehearsal",
      "Lambda-Runtime-Deadline-Ms": "1",
      "Lambda-Runtime-Invoked-Function-Arn": "",
    });
    response.end("{}");
  });
}
