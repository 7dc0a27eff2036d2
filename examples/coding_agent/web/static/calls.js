// How a page talks to an agent through the gateway: it calls handlers, and follows what the session does.

export const session = decodeURIComponent(location.pathname.slice("/c/".length));
const base = `/agents/${document.documentElement.dataset.agent}/${encodeURIComponent(session)}/`;
const SILENCE = "Restate or the worker does not answer; it is tried again.";
const TRIES = 8;
const [PATIENCE, AGAIN] = [5_000, 1_000]; // milliseconds until a call is given up, and a stream that broke is opened again

export async function call(handler, body, headers = {}) {
  const options = { method: "POST", headers: { "content-type": "application/json", ...headers }, body: body && JSON.stringify(body) };
  if (handler !== "attach") options.signal = AbortSignal.timeout(PATIENCE); // without a worker, it would wait for one
  const answer = await fetch(base + handler, options).catch(() => Response.json({ message: SILENCE }, { status: 503 }));
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(said.message || answer.statusText), { status: answer.status });
  return said;
}

// For what may be tried again: all tries have one key, and Restate takes them for one.
export async function callOnce(handler, body, onTrouble) {
  const headers = { "idempotency-key": crypto.getRandomValues(new Uint32Array(4)).join("-") };
  for (let tries = 1; ; tries += 1) {
    try {
      return await call(handler, body, headers);
    } catch (error) {
      if (error.status < 500 || tries === TRIES) throw error;
      onTrouble(error);
      await new Promise((done) => setTimeout(done, Math.min(250 * 2 ** tries, 4000)));
    }
  }
}

// Keeps the stream up, from where it was. A browser opens few connections to one server, so a hidden tab hangs up, and
// goes on when somebody looks at it.
export function follow({ onEvent, onLine }) {
  let [source, last, timer] = [null, "", 0];

  function open() {
    close();
    source = new EventSource(`${base}events?after=${last}`);
    source.onopen = () => onLine(true);
    source.onmessage = ({ data, lastEventId }) => {
      last = lastEventId;
      onEvent(JSON.parse(data));
    };
    source.onerror = () => {
      onLine(false);
      close();
      timer = setTimeout(open, AGAIN);
    };
  }

  function close() {
    clearTimeout(timer);
    source?.close();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
}
