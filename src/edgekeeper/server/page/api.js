// The HTTP API as functions; what fails is an Error whose message is for people.

const ROOT = "/api/v1";

async function ask(method, path, body) {
  const response = await fetch(ROOT + path, {
    method,
    body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
  });
  if (response.status === 204) return null;
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { final: response.status < 500 });
  return answer;
}

export const status = () => ask("GET", "/status");
export const upload = (file) => ask("POST", `/images?name=${encodeURIComponent(file.name)}`, file);
export const foresee = (image, options) => ask("POST", `/images/${image}/foresee`, options);
export const removeImage = (image) => ask("DELETE", `/images/${image}`);
export const removeAll = () => ask("DELETE", "/images");
export const all = async () => [
  ...(await ask("GET", "/images")).map((image) => ({ image })),
  ...(await ask("GET", "/jobs")).map((job) => ({ job })),
];
export const addJob = (image, options) => ask("POST", "/jobs", { image, ...options });
export const cancel = (job) => ask("POST", `/jobs/${job}/cancel`);
export const cancelAll = () => ask("POST", "/jobs/cancel");
export const retry = (job) => ask("POST", `/jobs/${job}/retry`);
export const removeJob = (job) => ask("DELETE", `/jobs/${job}`);
export const resultOf = (job) => `${ROOT}/jobs/${job}/result`;
export const viewOf = (kind, id, what = "view") => `${ROOT}/${kind}/${id}/${what}`;

// A tile of a view; level n has at most 2^n pixels on its longer side.
export const tileOf = (base, level, x, y) => `${base}/${level}/${x}_${y}`;
export const levelsOf = (view) => Math.ceil(Math.log2(Math.max(view.width, view.height)));

// Calls onAll with everything there is, now and after each reconnection, and onChange with changes.
export function listen({ onAll, onChange, onLost }) {
  const events = new EventSource(`${ROOT}/events`);
  events.addEventListener("all", (event) => onAll(JSON.parse(event.data)));
  events.onmessage = (event) => onChange(JSON.parse(event.data));
  events.onerror = () => {
    onLost();
    if (events.readyState !== EventSource.CLOSED) return;
    setTimeout(() => listen({ onAll, onChange, onLost }), 2000);
  };
}
