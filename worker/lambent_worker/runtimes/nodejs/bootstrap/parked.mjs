// A process that waits to be told whom it is for, by the frame ["specialise"]: docs/instance.md, "The wire".

import fs from "node:fs";
import { Module } from "node:module";

/** Blocks until it is told. A channel that ends instead ends the process. */
export function specialise(fd) {
  const size = exactly(fd, 4).readUInt32BE();
  const frame = exactly(fd, size);
  fs.closeSync(fd);
  const { environment, folder } = JSON.parse(frame.subarray(2 + frame.readUInt16BE()).toString("utf8"));
  // What stays is not touched: for a TZ that goes and comes again Node.js looks through all time zones.
  for (const name of Object.keys(process.env).filter((name) => !(name in environment))) {
    delete process.env[name];
  }
  for (const [name, value] of Object.entries(environment)) {
    if (process.env[name] !== value) {
      process.env[name] = value;
    }
  }
  process.chdir(folder);
  Module._initPaths(); // which has read NODE_PATH before
}

function exactly(fd, size) {
  const data = Buffer.alloc(size);
  for (let have = 0; have < size; ) {
    const count = fs.readSync(fd, data, have, size - have, null);
    if (count === 0) {
      process.exit(0);
    }
    have += count;
  }
  return data;
}
