// The trace id of the running call, in the process's environment.
//
// An assignment to `process.env` ends in `setenv`, and glibc keeps every value that it was ever given there:
// with another one for each call some 125 bytes a call, for as long as the process lives. So the environment that
// JavaScript and new processes see is a copy, which hands on all that is written, but the trace id.

import { syncBuiltinESMExports } from "node:module";

const NAME = "_X_AMZN_TRACE_ID";
let copy = process.env;

/** Before anything of the function is loaded, which may keep `process.env`. */
export function install() {
  const real = process.env;
  copy = { ...real };
  process.env = new Proxy(copy, {
    set(_, name, value) {
      if (name === NAME) {
        copy[name] = String(value);
      } else {
        real[name] = value; // makes a string of it, or throws
        copy[name] = real[name];
      }
      return true;
    },
    defineProperty(_, name, descriptor) {
      Object.defineProperty(real, name, descriptor);
      copy[name] = real[name];
      return true;
    },
    deleteProperty(_, name) {
      delete real[name];
      return delete copy[name];
    },
  });
  syncBuiltinESMExports(); // for `import { env } from "node:process"`
}

/** None where it is undefined. */
export function putTraceId(traceId) {
  if (traceId === undefined) {
    delete copy[NAME];
  } else {
    copy[NAME] = traceId;
  }
}
