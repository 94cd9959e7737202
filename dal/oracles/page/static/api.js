/** Talk with the server, and the answers on their way to it. */

import { pause, store } from "./dom.js";

const PATIENCE = 30_000; // ms, twice of what the server lets a question for news wait
const LONGEST_PAUSE = 3_000; // ms between two tries

/** The server answered, but not with what was asked for. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? `status ${status}`);
    this.status = status;
    this.body = body;
  }

  /** Whether asking again cannot help. 403 can: the cookie may come back in another tab. */
  get final() {
    return this.status >= 400 && this.status < 500 && ![403, 408, 429].includes(this.status);
  }
}

async function talk(path, options = {}) {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), PATIENCE);
  try {
    const response = await fetch(path, { signal: timeout.signal, ...options });
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, body);
    return body;
  } finally {
    clearTimeout(timer);
  }
}

/** News for a person: at once where the server's version is newer than `since`, else after a while. */
export function news(name, since) {
  const known = since === null ? "" : `&since=${since}`;
  return talk(`/api/state?name=${encodeURIComponent(name)}${known}`);
}

export const sample = (id) => talk(`/api/sample/${encodeURIComponent(id)}`);

export function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return talk(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** What a person can do about a failed request, in words. */
export function remedy(problem) {
  if (problem instanceof TypeError || problem.name === "AbortError") {
    return "The server does not answer. Is its process running?";
  }
  if (!(problem instanceof Refused)) return problem.message;
  if (problem.status === 403) {
    return "The server does not know this browser (any more). Open the address that its terminal shows.";
  }
  return `The server says: ${problem.message}`;
}

/** 16 random bytes; crypto.randomUUID is missing on plain http from another machine. */
function makeNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Every answer stays in the browser's storage until the server says that its disk has it, and is sent
 * again with the same nonce until then: after a reload of the page as well.
 */
export class Outbox {
  /** @param onTrouble called with an error while answers cannot be delivered, with null afterwards */
  constructor(onTrouble) {
    this.onTrouble = onTrouble;
    this.wake = () => {};
    addEventListener("online", () => this.wake());
  }

  /** Delivers an answer: resolves to `{saved}` or, where the server will never take it, `{refused}`. */
  send(run, answer) {
    const nonce = makeNonce();
    store.set(`unsent.${nonce}`, { run, answer: { ...answer, nonce } });
    return this.#deliver({ ...answer, nonce });
  }

  /** Answers of this run that an earlier page could not deliver, the oldest first. */
  left(run) {
    const kept = store.keys("unsent.").map((key) => store.get(key));
    return kept.filter((entry) => entry?.run === run).map((entry) => entry.answer);
  }

  /** Delivers one of `left`. */
  resend(answer) {
    return this.#deliver(answer);
  }

  async #deliver(answer) {
    for (let ms = 200; ; ms = Math.min(2 * ms, LONGEST_PAUSE)) {
      try {
        const saved = await post("/api/answer", answer);
        this.#forget(answer);
        return { saved };
      } catch (problem) {
        if (problem instanceof Refused && problem.final) {
          this.#forget(answer);
          return { refused: problem };
        }
        this.onTrouble(problem);
        await Promise.race([pause(ms), new Promise((resolve) => (this.wake = resolve))]);
      }
    }
  }

  #forget(answer) {
    store.remove(`unsent.${answer.nonce}`);
    this.onTrouble(null);
  }
}
