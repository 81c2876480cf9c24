/** The server's answers, its errors in words, and patience while it is away. */

export class ApiError extends Error {
  /** @param {number} status 0 where no answer came */
  constructor(message, status, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may well work a little later. */
  get passing() {
    return this.status === 0 || this.status === 503 || this.status === 502 || this.status === 504;
  }
}

/** Tells whether the server answers: "away" and "back". */
export const connection = new EventTarget();
let away = false;

function tell(isAway) {
  if (isAway === away) return;
  away = isAway;
  connection.dispatchEvent(new Event(away ? "away" : "back"));
}

export const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** The path of an address under /api; what is null or undefined is left out, lists are repeated. */
export function address(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) parameters.append(name, each);
  }
  const text = parameters.toString();
  return `/api${path}${text ? "?" + text : ""}`;
}

/** One request; throws an ApiError with the server's own words. @returns {Promise<Response>} */
export async function send(method, url, { body, headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    tell(true);
    throw new ApiError("The server does not answer. Is 'earmark serve' still running?", 0);
  }
  tell(false);
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const wait = Number(response.headers.get("Retry-After")) || 0;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 || response.status === 403) {
    const words = "Open the address with the token that 'earmark serve' printed.";
    return new ApiError(answer.error ? `${answer.error}. ${words}` : words, response.status);
  }
  const words = answer.error ?? `The server answered ${response.status} ${response.statusText}`;
  return new ApiError(words, response.status, wait);
}

/** A request that is repeated while the server is away or full, as long as it takes. */
export async function patiently(method, url, options = {}) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await send(method, url, options);
    } catch (error) {
      if (!(error instanceof ApiError) || !error.passing) throw error;
      options.onWait?.(error);
      await pause(error.retryAfter * 1000 || Math.min(8000, 500 * 2 ** attempt), options.signal);
    }
  }
}

export const getJson = async (path, query, options) =>
  (await patiently("GET", address(path, query), options)).json();

/** Uploads a file; `onProgress` is told the share that is sent. @returns {Promise<any>} */
export function upload(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/recordings");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      tell(false);
      if (request.status < 300) return resolve(request.response);
      const words = request.response?.error ?? `The server answered ${request.status}`;
      reject(new ApiError(words, request.status));
    });
    request.addEventListener("error", () =>
      reject(new ApiError(`${file.name} did not arrive: the server broke off or is away`, 0)),
    );
    request.addEventListener("abort", () => reject(signal.reason));
    signal?.addEventListener("abort", () => request.abort());
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}
