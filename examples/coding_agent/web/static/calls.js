// The calls of the page's server, and its stream.

export const session = decodeURIComponent(location.pathname.slice("/c/".length));
const base = `/api/${encodeURIComponent(session)}/`;
const TRIES = 8;

export class Refused extends Error {
  constructor(why, status) {
    super(why);
    this.status = status;
  }
}

export function read(name, query = {}) {
  return call(`${name}?${new URLSearchParams(query)}`, {});
}

export function change(name, body) {
  const headers = { "content-type": "application/json" };
  return call(name, { method: "POST", headers, body: JSON.stringify(body) });
}

// For what may be tried again: all tries have one key, and Restate takes them for one.
export async function changeOnce(name, body, onTrouble) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const key = Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
  for (let tries = 1; ; tries += 1) {
    try {
      return await change(name, { ...body, key });
    } catch (error) {
      if ((error instanceof Refused && error.status < 500) || tries === TRIES) throw error;
      onTrouble(error);
      await new Promise((done) => setTimeout(done, Math.min(250 * 2 ** tries, 4000)));
    }
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(base + path, { ...options, cache: "no-store" });
  } catch {
    throw new Refused("The page's server does not answer.", 503);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.error || response.statusText, response.status);
  return answer;
}

// Keeps the stream up. A browser opens few connections to one server, so a hidden tab hangs up, and
// resumes where it was when somebody looks at it.
export function watch({ onEvent, onState }) {
  let source = null;
  let last = "";
  let timer = 0;

  function open() {
    close();
    source = new EventSource(`${base}live${last ? `?after=${encodeURIComponent(last)}` : ""}`);
    source.onopen = () => onState("open");
    source.onmessage = (message) => {
      last = message.lastEventId || last;
      onEvent(JSON.parse(message.data));
    };
    source.onerror = () => {
      onState("lost");
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, 1000);
    };
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  open();
}
