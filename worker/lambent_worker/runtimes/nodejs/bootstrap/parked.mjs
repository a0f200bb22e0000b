// A process that waits to be told whom it is for, by the frame ["specialise"]: docs/instance.md, "The wire".

import fs from "node:fs";
import { Module } from "node:module";

/** Blocks until it is told. A channel that ends instead ends the process. */
export function specialise(fd) {
  const size = exactly(fd, 4).readUInt32BE();
  const frame = exactly(fd, size);
  fs.closeSync(fd);
  const { environment, folder } = JSON.parse(frame.subarray(2 + frame.readUInt16BE()).toString("utf8"));
  for (const name of Object.keys(process.env)) {
    delete process.env[name];
  }
  Object.assign(process.env, environment);
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
