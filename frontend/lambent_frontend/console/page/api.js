// Calls of the frontend. The key's token stays in this tab, and goes in a header alone.

const TOKEN = "lambent-token";

export class Failed extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  get away() {
    return this.code === "AWAY";
  }

  get refused() {
    return this.code === "UNAUTHENTICATED";
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

async function asked(method, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let answer;
  try {
    answer = await fetch(`/console/call/${method}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failed("AWAY", "The frontend cannot be reached.");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // a proxy's page, maybe
  }
  if (said.error) return new Failed(said.error.code, said.error.message);
  return new Failed(`HTTP ${answer.status}`, said.message ?? said.Message ?? `HTTP ${answer.status}`);
}

export async function call(method, body = {}) {
  const answer = await asked(method, body);
  try {
    return await answer.json();
  } catch {
    throw new Failed("AWAY", "The frontend's answer was cut off.");
  }
}

/** Gives each message of a stream to `took`; returns at its end, and throws what it failed with. */
export async function stream(method, body, took, signal) {
  const answer = await asked(method, body, signal);
  const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await lines.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Failed("AWAY", "The frontend has gone.");
    }
    if (part.done) return;
    const whole = (rest + part.value).split("\n");
    rest = whole.pop();
    for (const line of whole) {
      const message = JSON.parse(line);
      if (message.error) throw new Failed(message.error.code, message.error.message);
      took(message);
    }
  }
}

export const toBase64 = (text) => {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(binary);
};

export const fromBase64 = (text) =>
  new TextDecoder().decode(Uint8Array.from(atob(text ?? ""), (it) => it.charCodeAt(0)));
