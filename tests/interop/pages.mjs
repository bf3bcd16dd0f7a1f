// Each page of Foregate's own, in a real browser: light and dark, wide and narrow, by mouse and by
// keyboard.
//
// Environment: PARENT (parent domain of the hosts), PORT (the gate's), PORT_WITHOUT_LOGIN (of a gate that
// knows no login), BOB and ADA (cookies, `name=value`: of somebody without a role, and of somebody whose
// tokens cannot be renewed), ADMIN (the gate's admin listener), ELSEWHERE (the origin to which the login page
// sends people on), SCREENSHOTS (a directory), CHROMIUM (default /usr/bin/chromium).
//
// Prints one line of JSON per page and ends with 1 if one of them is not as it should be.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { PARENT, PORT, PORT_WITHOUT_LOGIN, BOB, ADA, ADMIN, ELSEWHERE, SCREENSHOTS } = process.env;
const { CHROMIUM = "/usr/bin/chromium" } = process.env;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const app = `http://app.${PARENT}:${PORT}`;

/** What a visitor meets: who (a cookie), where, and what the page says. */
const pages = [
  { name: "401", url: `http://app.${PARENT}:${PORT_WITHOUT_LOGIN}/dashboard`, status: 401, reason: "no_session" },
  { name: "403-role", url: `${app}/admin/users?sort=name`, cookie: BOB, status: 403, reason: "role_missing", action: "Sign out" },
  { name: "403-denied", url: `${app}/internal/x`, status: 403, reason: "denied" },
  { name: "404-host", url: `http://other.${PARENT}:${PORT}/`, status: 404, reason: "unknown_host" },
  { name: "404-reserved", url: `${app}/.foregate/none`, status: 404, reason: "unknown_reserved_path" },
  { name: "405", url: `${app}/.foregate/sign-out`, status: 405, reason: "method_not_allowed" },
  { name: "400", url: `${app}/a%2Fb`, status: 400, reason: "bad_path" },
  { name: "414", url: `${app}/${"a".repeat(17_000)}`, status: 414, reason: "target_too_long" },
  { name: "502", url: `${app}/public/broken`, status: 502, reason: "upstream_broken", action: "Try again" },
  { name: "503", url: `${app}/dashboard`, cookie: ADA, status: 503, reason: "backend_unavailable", action: "Try again" },
  { name: "504", url: `${app}/public/slow`, status: 504, reason: "upstream_timeout", action: "Try again" },
];

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** A browser that holds this cookie, and all that it asks for and complains of. */
async function visitor(options, cookie) {
  const context = await browser.newContext(options);
  if (cookie) {
    const [name, value] = cookie.split("=");
    await context.addCookies([{ name, value, domain: `.${PARENT}`, path: "/" }]);
  }
  const page = await context.newPage();
  const asked = [];
  const complaints = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => complaints.push({ text: message.text(), url: message.location().url }));
  page.on("pageerror", (error) => complaints.push({ text: String(error), url: "" }));
  return { page, asked, complaints };
}

/** What the browser says of any answer with such a status. */
const isStatus = (status, url) => (complaint) =>
  complaint.url === url && complaint.text.includes(`status of ${status} `);

async function look({ name, url, cookie, status, reason, action }, colorScheme) {
  const { page, asked, complaints } = await visitor({ colorScheme, viewport: { width: 1024, height: 720 } }, cookie);
  const picture = (look) => page.screenshot({ path: join(SCREENSHOTS, `${name}-${look}.png`), fullPage: true });
  const answer = await page.goto(url);
  assert.equal(answer.status(), status);
  const id = answer.headers()["x-request-id"];
  assert.deepEqual(await page.locator("dd").allTextContents(), [String(status), reason, id]);
  assert.equal(await page.locator("main h1").textContent(), await page.title());
  assert.equal(await page.locator("a, button").count(), action ? 1 : 0);
  await picture(colorScheme);

  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  assert.deepEqual(found, []);
  assert.ok(passes.some(({ id }) => id === "color-contrast"), "contrast was measured");
  const drawn = await page.evaluate(() => ({
    ground: getComputedStyle(document.body).backgroundColor,
    moving: [...document.querySelectorAll("*")]
      .map((element) => getComputedStyle(element))
      .filter((style) => style.animationName !== "none" || style.transitionDuration !== "0s").length,
  }));
  assert.equal(drawn.moving, 0, "nothing moves, so nobody need ask for less of it");

  if (action) {
    await page.keyboard.press("Tab");
    assert.match(await page.locator(":focus-visible").textContent(), new RegExp(`^${action}`));
    await picture(`${colorScheme}-focus`);
  }
  await page.emulateMedia({ forcedColors: "active" });
  await picture(`${colorScheme}-forced`);
  await page.emulateMedia({ forcedColors: "none" });
  await page.setViewportSize({ width: 320, height: 640 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} pixels too wide for a small telephone`);
  await picture(`${colorScheme}-narrow`);

  const foreign = asked.filter((asked) => asked !== url && !asked.startsWith("data:"));
  assert.deepEqual(foreign, [], "asked for more than the page");
  assert.deepEqual(complaints.filter((complaint) => !isStatus(status, url)(complaint)), []);
  await page.context().close();
  return drawn.ground;
}

let failed = false;
async function step(name, act) {
  const line = { name, ok: true };
  try {
    Object.assign(line, await act());
  } catch (error) {
    failed = true;
    Object.assign(line, { ok: false, error: String(error.message ?? error) });
  }
  console.log(JSON.stringify(line));
}

for (const page of pages) {
  await step(page.name, async () => {
    assert.notEqual(await look(page, "light"), await look(page, "dark"), "dark is not light");
  });
}

// It comes last among the pages, so that there is something to tell.
await step("the status page of the admin listener", async () => {
  const url = `http://${ADMIN}/`;
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1200, 320]) {
      const { page, asked, complaints } = await visitor({ colorScheme, viewport: { width, height: 800 } });
      await page.goto(url);
      assert.equal(await page.title(), "Foregate: ready");
      assert.match(await page.locator(".watch").textContent(), /backend: unavailable/);
      assert.match(await page.locator("main").textContent(), /upstream_timeout/);
      await page.screenshot({ path: join(SCREENSHOTS, `status-${colorScheme}-${width}.png`), fullPage: true });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), []);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${overflow} pixels too wide`);
      assert.deepEqual(asked.filter((asked) => asked !== url && !asked.startsWith("data:")), []);
      assert.deepEqual(complaints, []);
      await page.context().close();
    }
  }
});

await step("try again asks for the same page", async () => {
  const { page, asked } = await visitor({});
  const url = `${app}/public/broken?a=1&b=%22`;
  await page.goto(url);
  await page.getByRole("link", { name: "Try again" }).click();
  await page.waitForLoadState();
  assert.deepEqual(asked.filter((asked) => asked === url), [url, url]);
  await page.context().close();
});

await step("signing out leads to the login, wherever that leads, and names the way back", async () => {
  const { page, asked, complaints } = await visitor({}, BOB);
  const url = `${app}/admin/users?sort=name`;
  await page.goto(url);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL(`${ELSEWHERE}/**`);
  const login = asked.map((asked) => new URL(asked)).find(({ hostname }) => hostname === `auth.${PARENT}`);
  assert.equal(login.searchParams.get("callbackUrl"), url);
  assert.deepEqual(await page.context().cookies(), []);
  assert.deepEqual(complaints.filter((complaint) => !isStatus(403, url)(complaint)), []);
  await page.context().close();
});

await browser.close();
process.exit(failed ? 1 : 0);
