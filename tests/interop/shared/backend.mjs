// How both sites sign a visitor in: as in the 2022 article, with the backend's three fields.

const { BACKEND_URL, PARENT_DOMAIN, REFRESHES_AHEAD_MINUTES } = process.env;

/** `authorize` of the credentials provider: the user with the backend's tokens, or null. */
export async function authorize({ email, password }) {
  const answer = await fetch(`${BACKEND_URL}/auth/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ email, password }),
  });
  if (!answer.ok) return null;
  const tokens = await answer.json();
  const claims = JSON.parse(Buffer.from(tokens.accessToken.split(".")[1], "base64url"));
  return { id: claims.sub, name: claims.name, email: claims.email, ...tokens };
}

/** The article's own refresh: no lock, and what goes wrong is a mark on the session. */
async function refreshed(token) {
  try {
    const answer = await fetch(`${BACKEND_URL}/auth/refreshToken`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: token.refreshToken }),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    const { accessToken, accessTokenExpiry, refreshToken } = await answer.json();
    return { ...token, accessToken, accessTokenExpiry, refreshToken };
  } catch {
    return { ...token, error: "RefreshAccessTokenError" };
  }
}

export const callbacks = {
  /**
   * Copies the tokens at sign-in. Refreshing them is the gate's part, but where REFRESHES_AHEAD_MINUTES
   * is set the site does so by itself, as the article's does 60 minutes ahead.
   */
  jwt({ token, user }) {
    if (user) {
      const { accessToken, accessTokenExpiry, refreshToken } = user;
      token = { ...token, accessToken, accessTokenExpiry, refreshToken };
    }
    if (!REFRESHES_AHEAD_MINUTES) return token;
    const left = token.accessTokenExpiry - REFRESHES_AHEAD_MINUTES * 60_000 - Date.now();
    return left > 0 ? token : refreshed(token);
  },
  /** The page signs out when it sees the mark. */
  session: ({ session, token }) => (token?.error ? { ...session, error: token.error } : session),
  /** Visitors may go back to any host of the same parent. */
  redirect({ url, baseUrl }) {
    const target = new URL(url, baseUrl);
    return target.hostname.endsWith(`.${PARENT_DOMAIN}`) ? target.href : baseUrl;
  },
};

/** The session cookie is shared by all subdomains. */
export const sessionCookie = (name) => ({
  name,
  options: { httpOnly: true, sameSite: "lax", path: "/", secure: false, domain: `.${PARENT_DOMAIN}` },
});

export const fields = { email: { label: "Email" }, password: { label: "Password", type: "password" } };
