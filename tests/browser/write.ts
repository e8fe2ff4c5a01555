const REPEATED = new Set([409, 429, 502, 503, 504]);

export interface WriteOptions {
  /** Names the write. Keep it, and give it again, if a person tries again. */
  key?: string;
  /** Seconds after which no further attempt is made. */
  seconds?: number;
  /** Seconds that one attempt may take. */
  timeout?: number;
}

/**
 * Sends a write to Twofold until it is answered; it is done once. Takes what `fetch` takes.
 * Rejects if there was no response in time: whether the write was done is then unknown.
 */
export async function write(
  url: string,
  init: RequestInit = {},
  { key = newKey(), seconds = 60, timeout = 15 }: WriteOptions = {},
): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("Idempotency-Key", key);
  const end = Date.now() + seconds * 1000;
  for (let longest = 250; ; longest = Math.min(longest * 2, 8000)) {
    const abort = new AbortController();
    const cancel = () => abort.abort(init.signal?.reason);
    const timer = setTimeout(cancel, timeout * 1000);
    init.signal?.addEventListener("abort", cancel);
    let pause = Math.random() * longest;
    let failure: unknown;
    try {
      init.signal?.throwIfAborted();
      const response = await fetch(url, { ...init, headers, signal: abort.signal });
      // The connection may be lost in the middle of the body, too.
      const text = response.status === 204 ? null : await response.text();
      // Browsers accept headers that were cut off. Every response but 204 has a body.
      if (text === "") throw new Error("The response was cut off");
      if (!isRepeated(response.status, text)) return new Response(text, response);
      failure = new Error(`${response.status}: ${text}`);
      pause += 1000 * (Number(response.headers.get("Retry-After")) || 0);
    } catch (error) {
      if (init.signal?.aborted) throw error;
      failure = error;
    } finally {
      clearTimeout(timer);
      init.signal?.removeEventListener("abort", cancel);
    }
    if (Date.now() + pause > end) throw failure;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function isRepeated(status: number, text: string | null): boolean {
  if (status !== 200 || !text?.startsWith('{"errors"')) return REPEATED.has(status);
  // A GraphQL response has the errors of its fields beneath status 200.
  const { errors } = JSON.parse(text);
  return errors.some((error: any) => REPEATED.has(error.extensions?.status));
}

const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
