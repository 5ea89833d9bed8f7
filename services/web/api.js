// The server's API as this page uses it, and its errors in its own words.

import { events } from "./sse.js";
import { written } from "./exact.js";

// the page may be served below a path
const BASE = new URL("..", import.meta.url);
const KEY = "latentworks.key";
const JSON_TYPE = "application/json";

/** A refusal; `retryAfter` is in seconds, null where the server names none. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key === null ? {} : { authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(new URL(path, BASE), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is it running, and this machine connected?");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const told = await answer.json().catch(() => null);
  const { message = `The server answered with status ${answer.status}.`, code, param } = told?.error ?? {};
  const seconds = Number.parseInt(answer.headers.get("retry-after"), 10);
  return new ApiError(message, {
    status: answer.status,
    code,
    param,
    retryAfter: Number.isFinite(seconds) ? seconds : null,
  });
}

export async function capabilities() {
  return (await call("v1/capabilities")).json();
}

/** What a picture's file says of itself, as the JSON's text: seeds in it may be longer than numbers are. */
export async function inspect(file, type) {
  return (await call("v1/inspect", { method: "POST", headers: { "content-type": type }, body: file })).text();
}

/** Two decoders' pictures of kept latents, and how far they are apart. */
export async function compare(latents, first, second, signal) {
  const query = new URLSearchParams({ components: `${first},${second}` });
  const path = `v1/latents/${encodeURIComponent(latents)}/compare?${query}`;
  return (await call(path, { headers: { accept: JSON_TYPE }, signal })).json();
}

export function generate(fields, signal) {
  const headers = { "content-type": JSON_TYPE, accept: "text/event-stream" };
  return drawn("v1/images/generations", { method: "POST", headers, body: written(fields), signal });
}

/** Draw from a picture; `mask` is a PNG whose holes are drawn anew, or null. */
export function edit(fields, image, mask, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    form.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  form.append("image", image, "image");
  if (mask !== null) form.append("mask", mask, "mask.png");
  const headers = { accept: "text/event-stream" };
  return drawn("v1/images/edits", { method: "POST", headers, body: form, signal });
}

/** What became of a request when; null where the server does not know, or not any more. */
export async function timelineOf(request) {
  try {
    return await (await call(`v1/requests/${encodeURIComponent(request)}/timeline`)).json();
  } catch (error) {
    if (error instanceof ApiError) return null;
    throw error;
  }
}

/** A request's id and the versions that it is drawn by, then its events; whoever aborts has the server stop drawing. */
async function* drawn(path, options) {
  const answer = await call(path, options);
  const versions = versionsOf(answer.headers.get("x-component-versions") ?? "");
  yield { type: "pinned", versions, request: answer.headers.get("x-request-id") };
  try {
    for await (const { type, data } of events(answer.body)) {
      if (type === "error") throw failure(JSON.parse(data).error);
      yield { ...JSON.parse(data), type: type.slice(type.indexOf(".") + 1), text: data };
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("The connection broke before the picture was done.");
  }
}

function failure({ message, code, param }) {
  return new ApiError(message, { code, param });
}

/** `kind=name/version;sha256=...` of a header, as an object by kind. */
function versionsOf(header) {
  const parts = header.split(", ").filter((part) => part.includes("="));
  return Object.fromEntries(parts.map((part) => part.split(";")[0].split("=", 2)));
}
