// `console` as Lambda has it: TIME TAB REQUEST TAB LEVEL TAB MESSAGE on standard output.

import { formatWithOptions } from "node:util";

const LEVELS = {
  trace: "TRACE",
  debug: "DEBUG",
  log: "INFO",
  info: "INFO",
  warn: "WARN",
  error: "ERROR",
  fatal: "FATAL",
};

let requestId = "undefined"; // which is what Lambda writes while there is none

export function runsFor(id) {
  requestId = id;
}

export function install() {
  for (const [name, level] of Object.entries(LEVELS)) {
    console[name] = (...parts) => {
      const message = formatWithOptions({}, ...parts);
      process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${message}\n`);
    };
  }
}
