/** Says which page was served, in a form that survives HTML, JSON and React's own format. */
export function served(route) {
  return `served:${route};`;
}

export function Served({ route }) {
  return <p>{served(route)}</p>;
}

export function shopRoute(id) {
  return decodeURIComponent(id) === "secret" ? "vault" : "shop";
}

/** A page of the Pages Router, which gets the text as a prop. */
export function Shown({ text }) {
  return <p>{text}</p>;
}
