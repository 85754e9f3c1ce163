// Calls of the service, and its token.

import { $ } from "./elements.js";

export function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

export async function call(path, options = {}) {
  const { json, ...rest } = options;
  const content = json && { body: JSON.stringify(json) };
  const type = json && { "content-type": "application/json" };
  const answer = await fetch(path, { ...rest, ...content, headers: { ...headers(), ...type } });
  if (answer.ok) return answer;
  if (answer.status === 401) askForToken();
  let message = `The service answered ${answer.status}.`;
  try { message = (await answer.json()).message; } catch { /* no JSON */ }
  throw new Error(message);
}

export function askForToken() {
  $("token-section").hidden = false;
  $("token").focus();
}
