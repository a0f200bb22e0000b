// Answers in pieces: `awslambda.streamifyResponse` and the stream that such a handler writes to.

import { Writable } from "node:stream";

const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HTTP_ANSWER = "application/vnd.awslambda.http-integration-response";
const BODY_FOLLOWS = Buffer.alloc(8);

export function isStreaming(handler) {
  return handler[STREAMING] === "response";
}

/** The answer begins with the first write: until then an error is an ordinary one. */
export class ResponseStream extends Writable {
  #api;
  #requestId;
  #contentType = "application/octet-stream";
  #prelude;
  #answer;

  constructor(api, requestId) {
    super({ highWaterMark: 64 * 1024 });
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
    return handler;
  },
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setPrelude(prelude);
      return stream;
    },
  },
};
