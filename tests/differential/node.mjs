// Node's own http server, with the path read in one of three ways: `node.mjs url|legacy|lenient`.
import { createServer } from "node:http";
import { posix } from "node:path";
import { parse } from "node:url";

const readings = {
  // As most handwritten servers do it today: WHATWG URL, decoded once.
  url: (request) => decode(new URL(request.url, "http://localhost").pathname),
  // As they did it before, with the legacy parser.
  legacy: (request) => posix.normalize(decode(parse(request.url).pathname ?? "")),
  // As no single server does it, and each of these steps some server: other headers name the path,
  // escapes are decoded as long as there are any, parameters, letter case and a slash at the end
  // mean nothing, and dot segments are resolved last.
  lenient: ({ url, headers }) => {
    const target = HEADERS.map((name) => headers[name]).find(Boolean) ?? url;
    let path = parse(target).pathname ?? "";
    for (let last; path !== last; ) {
      last = path;
      path = decode(path);
    }
    path = path.split(/[?#\0]/)[0].replaceAll("\\", "/").replace(/;[^/]*/g, "");
    path = posix.normalize(path).toLowerCase();
    return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
  },
};
const HEADERS = ["x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri", "x-invoke-path"];

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const routes = [
  [/^\/$/, "home"],
  [/^\/about$/, "about"],
  [/^\/public(\/|$)/, "public"],
  [/^\/admin(\/|$)/, "admin"],
  [/^\/dashboard(\/|$)/, "dashboard"],
  [/^\/api\/private$/, "private"],
  [/^\/shop\/[^/]+\/edit$/, "edit"],
  [/^\/shop\/secret$/, "vault"],
  [/^\/shop\/[^/]+$/, "shop"],
  [/^\/café$/, "cafe"],
  [/^\/files\/secret(\/|$)/, "secret"],
  [/^\/files\//, "files"],
];

const [, , reading, port] = process.argv;
createServer((request, response) => {
  let route;
  try {
    const path = readings[reading](request);
    route = routes.find(([pattern]) => pattern.test(path))?.[1];
  } catch {
    response.statusCode = 400;
  }
  response.end(route ? `served:${route};` : "nothing here");
}).listen(port, "127.0.0.1");
