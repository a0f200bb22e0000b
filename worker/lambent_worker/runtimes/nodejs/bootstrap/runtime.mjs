// Answers one event after another.

import { runsFor } from "./console.mjs";
import { contextOf } from "./context.mjs";
import { failure, Fault, logFailure } from "./failure.mjs";
import { highWaterMarkOf, isStreaming, ResponseStream } from "./streaming.mjs";
import { putTraceId } from "./trace_id.mjs";

/** Called when the event loop has nothing left to do while a call is open: the call is over. */
const NOTHING_WAITS = () => {};

export class Runtime {
  #api;
  #handler;
  #requestId;
  #stream;
  #whenEmpty = NOTHING_WAITS;
  #isBroken = false;

  constructor(api) {
    this.#api = api;
  }

  async start(handler) {
    for (;;) {
      await this.one(handler);
    }
  }

  /** Waits for an event, and answers it. */
  async one(handler) {
    this.#handler = handler;
    const { headers, body } = await this.#api.next();
    this.#requestId = headers["lambda-runtime-aws-request-id"];
    putTraceId(headers["lambda-runtime-trace-id"]);
    runsFor(this.#requestId);
    await this.#answer(headers, body);
    this.#requestId = undefined;
  }

  async #answer(headers, body) {
    const id = this.#requestId;
    try {
      const event = parsed(body);
      if (isStreaming(this.#handler)) {
        this.#stream = new ResponseStream(this.#api, id, highWaterMarkOf(this.#handler));
        await this.#streamed(event, this.#stream, headers);
      } else {
        await this.#api.answer(id, asJson(await this.#result(event, headers)));
      }
    } catch (error) {
      if (this.#isBroken) {
        return new Promise(() => {}); // `broke` has the word, and ends this process
      }
      logFailure(error, "Invoke Error");
      await this.#fail(error);
    } finally {
      this.#whenEmpty = NOTHING_WAITS;
      this.#stream = undefined;
    }
  }

  /** Behind what was written, if the answer has begun. */
  #fail(error) {
    if (this.#stream?.hasBegun) {
      return this.#stream.break(failure(error));
    }
    return this.#api.failed(this.#requestId, failure(error));
  }

  /** What the handler answers, whichever way it has: a promise, its callback, or its context. */
  #result(event, headers) {
    return new Promise((resolve, reject) => {
      let isSettled = false;
      const settle = (error, result, mayWait) => {
        if (isSettled) {
          return;
        }
        isSettled = true;
        const end = () => (error === null || error === undefined ? resolve(result) : reject(error));
        if (mayWait && context.callbackWaitsForEmptyEventLoop) {
          this.#whenEmpty = end;
        } else {
          end();
        }
      };
      const context = contextOf(headers, settle);
      this.#whenEmpty = () => resolve(null); // nothing is left that could ever answer
      const returned = this.#handler(event, context, (error, result) => settle(error, result, true));
      if (typeof returned?.then === "function") {
        returned.then(resolve, reject);
      }
    });
  }

  async #streamed(event, stream, headers) {
    const context = contextOf(headers, NOTHING_WAITS);
    await new Promise((resolve, reject) => {
      this.#whenEmpty = () => stream.end();
      stream.on("error", reject);
      stream.on("finish", resolve);
      Promise.resolve(this.#handler(event, stream, context)).catch(reject);
    });
  }

  loopIsEmpty() {
    const end = this.#whenEmpty;
    this.#whenEmpty = NOTHING_WAITS;
    end();
  }

  rejected(reason, promise) {
    const message = reason?.stack !== undefined ? String(reason) : `${reason}`;
    const fault = new Fault("Runtime.UnhandledPromiseRejection", message, reason);
    Object.assign(fault, { reason: message, promise: {} });
    this.broke(fault, "Unhandled Promise Rejection", 128);
  }

  /** What nobody caught ends this process, and fails the call that runs. */
  async broke(error, title, status) {
    if (this.#isBroken) {
      return;
    }
    this.#isBroken = true;
    logFailure(error, title);
    try {
      if (this.#requestId !== undefined) {
        await this.#fail(error);
      } else if (this.#handler === undefined) {
        await this.#api.initFailed(failure(error));
      }
    } finally {
      process.exit(status);
    }
  }
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new Fault("Runtime.UnmarshalError", String(error));
  }
}

function asJson(value) {
  try {
    return JSON.stringify(value === undefined ? null : value) ?? "null";
  } catch (error) {
    throw new Fault("Runtime.MarshalError", `Unable to stringify response body: ${error}`);
  }
}
