// oidc-provider with rotation and reuse detection: provider.mjs port state-file.
//
// It logs everybody in without a form, as `login_hint`. Beside its own endpoints there are an API that wants
// a token (/api/orders) and what happened since the start (/stats). The client `app` authenticates in the
// body and gets JWTs, the client `strict` by HTTP Basic and gets opaque tokens. What the provider knows is
// kept in the state file, so that it can be stopped and started again.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from "jose";
import Provider from "oidc-provider";

const [port, stateFile] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const audience = "urn:orders";
const stats = { attempts: 0, redemptions: 0, refused: 0, reuses: 0 };

const state = existsSync(stateFile)
  ? JSON.parse(readFileSync(stateFile))
  : { key: { ...(await exportJWK((await generateKeyPair("RS256", { extractable: true })).privateKey)), kid: "1" }, records: {} };
const { records } = state;
const save = () => writeFileSync(stateFile, JSON.stringify(state));
save();

class Records {
  constructor(model) {
    this.model = model;
  }
  at(id) {
    return `${this.model}:${id}`;
  }
  upsert(id, payload) {
    records[this.at(id)] = payload;
    save();
  }
  find(id) {
    return records[this.at(id)];
  }
  findByUid(uid) {
    return Object.entries(records).find(([at, it]) => at.startsWith(this.at("")) && it.uid === uid)?.[1];
  }
  consume(id) {
    records[this.at(id)].consumed = Math.floor(Date.now() / 1000);
    save();
  }
  destroy(id) {
    delete records[this.at(id)];
    save();
  }
  revokeByGrantId(grantId) {
    for (const [at, it] of Object.entries(records)) if (it.grantId === grantId) delete records[at];
    save();
  }
}

const client = (id, secret, method) => ({
  client_id: id,
  client_secret: secret,
  token_endpoint_auth_method: method,
  redirect_uris: ["http://app.example.com/callback"],
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
});

// Cleo's first token, of a minute ago, is good for another API only.
const isForInvoices = ({ oidc }, token) =>
  token.accountId === "cleo" && oidc.params.grant_type === "authorization_code";

const provider = new Provider(issuer, {
  adapter: Records,
  // The secret of `strict` shows whether both parts of HTTP Basic are form-encoded (RFC 6749 §2.3.1).
  clients: [client("app", "app-secret", "client_secret_post"), client("strict", "p:s %w+d", "client_secret_basic")],
  scopes: ["openid", "offline_access"],
  cookies: { keys: ["for-tests-only"] },
  jwks: { keys: [state.key] },
  pkce: { required: () => false },
  rotateRefreshToken: true,
  issueRefreshToken: () => true,
  ttl: { AccessToken: 600, Grant: 86400, IdToken: 600, Interaction: 600, RefreshToken: 86400, Session: 86400 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: (ctx, token) => (isForInvoices(ctx, token) ? { invoices: true } : undefined),
  formats: {
    customizers: {
      jwt(ctx, token, { payload }) {
        if (isForInvoices(ctx, token)) Object.assign(payload, { aud: "urn:invoices", iat: payload.iat - 60 });
      },
    },
  },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true, allowedPolicy: (_, client, token) => token.clientId === client.clientId },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx) => ({
        audience,
        scope: "api",
        accessTokenFormat: ctx.oidc.client.clientId === "strict" ? "opaque" : "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  interactions: { url: (_, { uid }) => `/at-once/${uid}` },
  async loadExistingGrant({ oidc }) {
    const { Grant } = oidc.provider;
    const known = oidc.session.grantIdFor(oidc.client.clientId);
    if (known) return Grant.find(known);
    const grant = new Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope("openid offline_access");
    grant.addResourceScope(audience, "api");
    await grant.save();
    return grant;
  },
});

const isRefresh = (ctx) => ctx.oidc.params?.grant_type === "refresh_token";
provider.on("grant.success", (ctx) => {
  if (!isRefresh(ctx)) return;
  stats.attempts += 1;
  stats.redemptions += 1;
});
provider.on("grant.error", (ctx, error) => {
  if (!isRefresh(ctx)) return;
  stats.attempts += 1;
  stats.refused += 1;
  if (error.error_detail === "refresh token already used") stats.reuses += 1;
});

const publicKeys = createLocalJWKSet({ keys: [{ kty: state.key.kty, n: state.key.n, e: state.key.e, kid: "1" }] });

async function isGood(authorization = "") {
  const token = authorization.replace(/^Bearer /, "");
  if (!token.includes(".")) {
    const found = await provider.AccessToken.find(token);
    return Boolean(found && !found.extra?.invoices);
  }
  const verified = jwtVerify(token, publicKeys, { audience, issuer });
  return verified.then(() => true, () => false);
}

const answer = provider.callback();
createServer(async (request, response) => {
  const json = (status, body) => response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  if (request.url === "/stats") return json(200, stats);
  if (request.url === "/api/orders") {
    if (await isGood(request.headers.authorization)) return json(200, { orders: [] });
    return json(401, { error: "invalid_token" });
  }
  if (request.url.startsWith("/at-once/")) {
    const { params } = await provider.interactionDetails(request, response);
    const login = { accountId: params.login_hint };
    return provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: true });
  }
  return answer(request, response);
}).listen(Number(port), "127.0.0.1");
