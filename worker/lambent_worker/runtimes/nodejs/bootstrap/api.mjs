// The Runtime API over a connection that is kept alive; a second one says what broke an answer in pieces.

import http from "node:http";

const ERROR_TYPE = "Lambda-Runtime-Function-Error-Type";
const ERROR_BODY = "Lambda-Runtime-Function-Error-Body";

export class RuntimeApi {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
  #host;
  #port;

  constructor(address) {
    [this.#host, this.#port] = address.split(":");
  }

  /** Waits for the next event, however long. Resolves to its headers and its body as text. */
  async next() {
    const { headers, body } = await this.#ask("GET", "invocation/next");
    return { headers, body: body.toString("utf8") };
  }

  close() {
    this.#agent.destroy();
  }

  answer(requestId, body) {
    return this.#ask("POST", `invocation/${requestId}/response`, body);
  }

  failed(requestId, failure) {
    return this.#ask("POST", `invocation/${requestId}/error`, JSON.stringify(failure), {
      [ERROR_TYPE]: headerValue(failure.errorType),
    });
  }

  initFailed(failure) {
    return this.#ask("POST", "init/error", JSON.stringify(failure), {
      [ERROR_TYPE]: headerValue(failure.errorType),
    });
  }

  /** Begins an answer in pieces. `end(failure)` ends it, with what went wrong on the way if something did. */
  stream(requestId, contentType) {
    let settled;
    const done = new Promise((resolve, reject) => {
      settled = { resolve, reject };
    });
    const request = this.#request("POST", `invocation/${requestId}/response`, {
      "Content-Type": contentType,
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Transfer-Encoding": "chunked",
      Trailer: `${ERROR_TYPE}, ${ERROR_BODY}`,
    });
    request.on("error", settled.reject);
    request.on("response", (response) => {
      response.resume();
      response.on("end", settled.resolve);
    });
    request.flushHeaders();
    return {
      write: (data, callback) => request.write(data, callback),
      end: (failure) => {
        if (failure !== undefined) {
          request.addTrailers({
            [ERROR_TYPE]: headerValue(failure.errorType),
            [ERROR_BODY]: Buffer.from(JSON.stringify(failure)).toString("base64"),
          });
        }
        request.end();
        return done;
      },
    };
  }

  #ask(method, path, body, headers = {}) {
    return new Promise((resolve, reject) => {
      if (body !== undefined) {
        headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), ...headers };
      }
      const request = this.#request(method, path, headers);
      request.on("error", reject);
      request.on("response", (response) => {
        const pieces = [];
        response.on("data", (piece) => pieces.push(piece));
        response.on("error", reject);
        response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(pieces) }));
      });
      request.end(body);
    });
  }

  #request(method, path, headers) {
    return http.request({
      agent: this.#agent,
      host: this.#host,
      port: this.#port,
      method,
      path: `/2018-06-01/runtime/${path}`,
      headers,
    });
  }
}

function headerValue(text) {
  return String(text).replace(/[^\x20-\x7e]/g, "?");
}
