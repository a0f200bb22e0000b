// Answers in pieces: `awslambda.streamifyResponse` and the stream that such a handler writes to.

import { Writable } from "node:stream";

const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");
const HTTP_ANSWER = "application/vnd.awslambda.http-integration-response";
const BODY_FOLLOWS = Buffer.alloc(8);

export function isStreaming(handler) {
  return handler[STREAMING] === "response";
}

/** Bytes that a write may leave unsent before it says that the function should wait. */
export function highWaterMarkOf(handler) {
  const asked = Number.parseInt(handler[HIGH_WATER_MARK], 10);
  return asked >= 0 ? asked : 64 * 1024;
}

/** The answer begins with the first write: until then an error is an ordinary one. */
export class ResponseStream extends Writable {
  #api;
  #requestId;
  #contentType = "application/octet-stream";
  #prelude;
  #answer;

  constructor(api, requestId, highWaterMark) {
    super({ highWaterMark });
    this.#api = api;
    this.#requestId = requestId;
  }

  get hasBegun() {
    return this.#answer !== undefined;
  }

  setContentType(contentType) {
    this.#contentType = contentType;
  }

  /** Status, headers and cookies of an answer to HTTP. */
  setPrelude(prelude) {
    this.#contentType = HTTP_ANSWER;
    this.#prelude = prelude;
  }

  /** Ends a begun answer with what went wrong. */
  break(failure) {
    return this.#answer.end(failure);
  }

  _write(data, encoding, callback) {
    this.#begin();
    this.#answer.write(data, callback);
  }

  _final(callback) {
    this.#begin();
    this.#answer.end().then(() => callback(), callback);
  }

  #begin() {
    if (this.#answer === undefined) {
      this.#answer = this.#api.stream(this.#requestId, this.#contentType);
      if (this.#prelude !== undefined) {
        this.#answer.write(JSON.stringify(this.#prelude));
        this.#answer.write(BODY_FOLLOWS);
      }
    }
  }
}

export const awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    handler[HIGH_WATER_MARK] = options?.highWaterMark;
    return handler;
  },
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setPrelude(prelude);
      return stream;
    },
  },
};
