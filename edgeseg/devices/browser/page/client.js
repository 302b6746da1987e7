// What the page says to the host, and how it asks for orders.

const RETRIES = 40;
const PAUSE_MS = 500;

/** The token stands behind the # of the link; the address bar loses it, the tab keeps it for a reload. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("t");
  if (given) {
    sessionStorage.setItem("edgeseg-token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("edgeseg-token") ?? "";
}

const token = takeToken();
let visitor = sessionStorage.getItem("edgeseg-visitor") ?? "";
let life = 0;
let serial = 0;
let after = 0;

export class Refused extends Error {}

/** A request that is repeated while the network is away; a refusal is final. */
async function ask(path, options = {}, retries = RETRIES) {
  const headers = {Authorization: `Bearer ${token}`, "X-Edgeseg-Visitor": visitor, ...options.headers};
  for (let left = retries; ; left--) {
    try {
      const response = await fetch(path, {cache: "no-store", ...options, headers});
      if (response.ok) return response;
      throw new Refused(`${response.status} ${await response.text()}`);
    } catch (error) {
      if (error instanceof Refused || left <= 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

export const welcome = async () => (await ask("/api/welcome", {}, 2)).json();

export const file = async (path) => (await ask(path)).arrayBuffer();

/** Whether this tab had joined before it was loaded again. */
export const joinedBefore = () => sessionStorage.getItem("edgeseg-running") === "yes";

export async function join(hello) {
  const answer = await (await ask("/api/join", {method: "POST", body: JSON.stringify(hello)})).json();
  ({visitor, life} = answer);
  serial = after = 0;
  sessionStorage.setItem("edgeseg-visitor", visitor);
  sessionStorage.setItem("edgeseg-running", "yes");
}

/** The next orders; waits until there are some. */
export async function orders() {
  for (;;) {
    const {orders} = await (await ask(`/api/orders?life=${life}&after=${after}`)).json();
    if (orders.length) {
      after = orders.at(-1).number;
      return orders;
    }
  }
}

/** Records for an order, one JSON object a line below the order's id. */
export async function answer(id, records) {
  const body = [id, ...records.map((record) => JSON.stringify(record))].join("\n");
  await ask(`/api/answer?life=${life}&serial=${++serial}`, {method: "POST", body});
}

/** Good-bye: closed, or about to be loaded again. The request outlives the page. */
export function wave() {
  const headers = {Authorization: `Bearer ${token}`, "X-Edgeseg-Visitor": visitor};
  fetch(`/api/gone?life=${life}`, {method: "POST", headers, keepalive: true}).catch(() => {});
}

export function leave() {
  sessionStorage.removeItem("edgeseg-running");
  sessionStorage.removeItem("edgeseg-visitor");
}
