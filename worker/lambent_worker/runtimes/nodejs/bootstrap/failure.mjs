// Errors as Lambda writes them for Node.js.

import util from "node:util";

const OURS = new URL(".", import.meta.url).href;

/** A failure with a name of Lambda's own. */
export class Fault extends Error {
  constructor(errorType, message, cause) {
    super(message);
    this.name = errorType;
    if (cause?.stack !== undefined) {
      this.stack = `${errorType}: ${cause.stack}`;
    }
  }
}

function isError(value) {
  return util.types.isNativeError(value) || (value?.name && value?.message && value?.stack);
}

/** Its stack, without this folder's frames and Node's own beneath them. */
function trace(error) {
  const lines = String(error.stack).split("\n");
  const frames = (line) => line.startsWith("    at ");
  let last = lines.length;
  const first = lines.findIndex((line) => frames(line) && line.includes(OURS));
  if (first !== -1) {
    last = first;
  }
  while (last > 0 && frames(lines[last - 1]) && lines[last - 1].includes("node:internal")) {
    last -= 1;
  }
  return lines.slice(0, last);
}

/** Lambda's error JSON for whatever was thrown. */
export function failure(error) {
  try {
    if (isError(error)) {
      return { errorType: String(error.name), errorMessage: String(error.message), trace: trace(error) };
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    return { errorType: "handled", errorMessage: "what was thrown cannot be shown as text", trace: [] };
  }
}

/** The log gets it too, as on Lambda. */
export function logFailure(error, title) {
  const { errorType, errorMessage, trace: stack } = failure(error);
  const fields = isError(error) ? { ...error, errorType, errorMessage, stack } : { errorType, errorMessage, stack };
  delete fields.name;
  let text;
  try {
    text = JSON.stringify(fields);
  } catch {
    text = JSON.stringify({ errorType, errorMessage, stack });
  }
  console.error(`${title} \t${text}`);
}
