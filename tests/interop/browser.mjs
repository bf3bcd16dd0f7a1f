// A visitor's afternoon with real Next.js sites behind Foregate, in a real browser.
//
// Environment: PARENT (parent domain of the hosts app, shop and auth), PORT (the gate's), BACKEND_URL,
// CHROMIUM (default /usr/bin/chromium), SCREENSHOTS (a directory; none are made without it).
//
// Prints one line of JSON per step and ends with 1 at the first step that fails.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { PARENT, PORT, BACKEND_URL, CHROMIUM = "/usr/bin/chromium", SCREENSHOTS } = process.env;
const origin = (name) => `http://${name}.${PARENT}:${PORT}`;
const [app, shop, auth] = ["app", "shop", "auth"].map(origin);

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

/** A browser without cookies, and a page in it. */
const visitor = async () => (await browser.newContext()).newPage();

let number = 0;
async function step(name, page, act) {
  const begin = Date.now();
  number += 1;
  const line = { step: number, name, ok: true };
  try {
    Object.assign(line, await act());
  } catch (error) {
    Object.assign(line, { ok: false, url: page.url(), error: String(error.message ?? error) });
  }
  line.ms = Date.now() - begin;
  if (SCREENSHOTS) {
    const file = `${PARENT}-${String(number).padStart(2, "0")}.png`;
    await page.screenshot({ path: join(SCREENSHOTS, file) });
  }
  console.log(JSON.stringify(line));
  if (!line.ok) {
    await browser.close();
    process.exit(1);
  }
}

const stats = async () => (await fetch(`${BACKEND_URL}/stats`)).json();
const shown = (page, id) => page.getByTestId(id).textContent();
const claims = (bearer) => {
  assert.match(bearer, /^Bearer [\w-]+\.[\w-]+\.[\w-]+$/);
  return JSON.parse(Buffer.from(bearer.split(".")[1], "base64url"));
};

/** Asks the page's own site `count` times at once. */
const ask = (page, count, path = "/api/whoami") =>
  page.evaluate(
    ([count, path]) =>
      Promise.all(
        Array.from({ length: count }, async () => {
          const answer = await fetch(path);
          return { status: answer.status, body: await answer.json() };
        }),
      ),
    [count, path],
  );

/** Waits until the token that this page's site is given now has ended: nothing asks meanwhile. */
async function outlive(page) {
  const [{ body }] = await ask(page, 1);
  const left = claims(body.authorization).exp * 1000 - Date.now();
  assert.ok(left < 30_000, `the token lives ${left} ms longer`);
  await page.waitForTimeout(Math.max(0, left) + 200);
  return { token: body.authorization, before: await stats() };
}

/** Exactly one redemption since `before`, and no token was offered twice. */
async function redeemedOnce(before) {
  const now = await stats();
  assert.equal(now.redemptions, before.redemptions + 1, "redemptions");
  assert.equal(now.attempts, before.attempts + 1, "attempts");
  assert.equal(now.refused, 0, "refused");
  return { redemptions: now.redemptions };
}

async function signIn(page, email) {
  await page.locator("input[name=email]").fill(email);
  await page.locator("input[name=password]").fill("demo");
  await page.locator("form[action*='/callback/credentials'] button[type=submit]").click();
}

const isLogin = (page, callback) => {
  const url = new URL(page.url());
  assert.equal(url.origin + url.pathname, `${auth}/api/auth/signin`);
  assert.equal(url.searchParams.get("callbackUrl"), callback);
};

const ada = await visitor();
let kept;

await step("a public page needs no session", ada, async () => {
  const answer = await ada.goto(`${app}/`);
  assert.equal(answer.status(), 200);
  assert.match(await shown(ada, "title"), /^app: home/);
});

await step("a guarded page leads to the other host's stock sign-in", ada, async () => {
  await ada.goto(`${app}/dashboard?tab=1`);
  isLogin(ada, `${app}/dashboard?tab=1`);
});

await step("signing in leads back, and the site gets a Bearer token", ada, async () => {
  await signIn(ada, "ada@example.com");
  await ada.waitForURL(`${app}/dashboard?tab=1`);
  assert.equal(claims(await shown(ada, "authorization")).email, "ada@example.com");
  assert.equal(await shown(ada, "user"), "ada@example.com");
  assert.equal((await stats()).logins, 1);
});

await step("another subdomain knows the session", ada, async () => {
  await ada.goto(`${shop}/dashboard`);
  assert.equal(ada.url(), `${shop}/dashboard`);
  assert.match(await shown(ada, "title"), /^shop: /);
  assert.equal(claims(await shown(ada, "authorization")).email, "ada@example.com");
});

await step("an admin passes at the admin area", ada, async () => {
  const answer = await ada.goto(`${app}/admin`);
  assert.equal(answer.status(), 200);
  assert.match(await shown(ada, "title"), /^app: admin/);
});

await step("twenty fetches with an ended token: one redemption, one new token", ada, async () => {
  const { token, before } = await outlive(ada);
  const answers = await ask(ada, 20);
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  const tokens = new Set(answers.map(({ body }) => body.authorization));
  assert.equal(tokens.size, 1);
  assert.ok(!tokens.has(token), "the token is a new one");
  return redeemedOnce(before);
});

await step("a page with an ended token goes on working", ada, async () => {
  const { token, before } = await outlive(ada);
  const answer = await ada.goto(`${app}/dashboard`);
  assert.equal(answer.status(), 200);
  const renewed = await shown(ada, "authorization");
  assert.equal(claims(renewed).email, "ada@example.com");
  assert.notEqual(renewed, token);
  return redeemedOnce(before);
});

await step("the site's own re-issue of the cookie keeps the new tokens", ada, async () => {
  const { token, before } = await outlive(ada);
  const [{ status, body }] = await ask(ada, 1, "/api/auth/session");
  assert.equal(status, 200);
  assert.equal(body.user.email, "ada@example.com");
  const [whoami] = await ask(ada, 1);
  assert.notEqual(whoami.body.authorization, token);
  assert.equal(whoami.body.user, "ada@example.com");
  return redeemedOnce(before);
});

await step("somebody without the role gets 403 at the admin area", ada, async () => {
  const bob = await visitor();
  await bob.goto(`${app}/dashboard`);
  await signIn(bob, "bob@example.com");
  await bob.waitForURL(`${app}/dashboard`);
  const answer = await bob.goto(`${app}/admin`);
  assert.equal(answer.status(), 403);
  assert.equal(await bob.getByTestId("authorization").count(), 0);
  await bob.context().close();
});

await step("signing out on one host ends the session on all", ada, async () => {
  await ada.goto(`${app}/dashboard`);
  kept = await ada.context().cookies();
  await ada.getByTestId("sign-out").click();
  await ada.waitForURL(`${app}/`);
  const session = (await ada.context().cookies()).filter(({ name }) => name.includes("session-token"));
  assert.deepEqual(session, []);
  for (const site of [shop, app]) {
    await ada.goto(`${site}/dashboard`);
    isLogin(ada, `${site}/dashboard`);
  }
});

await step("a copy of the cookie from before the sign-out is not renewed", ada, async () => {
  const thief = await visitor();
  await thief.context().addCookies(kept);
  await thief.goto(`${app}/`);
  const [{ status }] = await ask(thief, 1);
  const before = await stats();
  if (status === 200) await outlive(thief);
  await thief.goto(`${app}/dashboard`);
  isLogin(thief, `${app}/dashboard`);
  assert.equal((await stats()).attempts, before.attempts, "attempts");
  await thief.context().close();
});

await browser.close();
